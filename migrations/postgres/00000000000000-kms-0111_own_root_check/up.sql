-- Ours. A known text, encrypted by each root key: a process whose root key does
-- not open it has another key in the place of that one, and must not wrap
-- anything with it.

create table kms_root_check (
  key_id text primary key,
  check_blob bytea not null,
  create_time kms_timestamp not null,
  update_time kms_timestamp not null
);
comment on table kms_root_check is 'by the id of a root key: a known text that it encrypted, to tell it from another key of that id';
comment on column kms_root_check.key_id is 'as the wrapped keys name it';

create trigger kms_immutable_columns before update on kms_root_check
  for each row execute function kms_immutable_columns('key_id', 'create_time');
create trigger kms_default_create_time_column before insert on kms_root_check
  for each row execute function kms_default_create_time();
create trigger kms_update_time_column before update on kms_root_check
  for each row execute function kms_update_time_column();

update kms_extension_version set version = 'v3';
