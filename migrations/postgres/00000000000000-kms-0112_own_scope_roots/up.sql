-- Ours. Which root of trust wraps the root key of a scope, where that is not
-- the engine's own. It goes with the root key.
--
-- No trigger notes a change of it: whoever gives a scope another root encrypts
-- its root key versions anew in the same transaction, and that is noted.

create table kms_scope_root (
  root_key_id text primary key
    constraint kms_scope_root_root_key_id_fkey references kms_root_key (private_id) on delete cascade,
  name text not null
    constraint kms_scope_root_name_not_blank check (btrim(name, E' \t\n\x0b\f\r') <> '')
);
comment on table kms_scope_root is
  'names of the roots of trust that wrap root keys; a root key that is not listed is wrapped by the engine''s own';

create trigger kms_immutable_columns before update on kms_scope_root
  for each row execute function kms_immutable_columns('root_key_id');

update kms_extension_version set version = 'v4';
