-- Ours. Which root of trust wraps the root key of a scope, where that is not
-- the engine's own: a root key that is not listed is wrapped by that. It goes
-- with the root key.
--
-- No trigger notes a change of it: whoever gives a scope another root encrypts
-- its root key versions anew in the same transaction, and that is noted.

create table kms_scope_root (
  root_key_id text not null primary key
    references kms_root_key (private_id) on delete cascade,
  name text not null
    constraint kms_scope_root_name_not_blank
    check (trim(name, ' ' || char(9, 10, 11, 12, 13)) <> '')
);

create trigger kms_immutable_columns_kms_scope_root
before update on kms_scope_root
for each row
begin
  select case
    when new.root_key_id is not old.root_key_id
      then raise(abort, 'immutable column: kms_scope_root.root_key_id')
  end;
end;

update kms_extension_version set version = 'v4';
