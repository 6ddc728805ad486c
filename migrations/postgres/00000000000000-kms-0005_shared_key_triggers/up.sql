-- Shared with Go kms.
--
-- Rewrapping changes the key of a version, its number where an operator
-- repairs one, and the root key version that wraps it: these are no immutable
-- columns. (Go kms reached this in steps; databases that stopped before its
-- last step say v0.0.2 too, and still refuse root_key_version_id.)
--
-- `or replace`: adopting a database that Go kms made runs this again, so that
-- it has the last step.

create or replace trigger kms_immutable_columns before update on kms_root_key
  for each row execute function kms_immutable_columns('private_id', 'scope_id', 'create_time');
create or replace trigger kms_default_create_time_column before insert on kms_root_key
  for each row execute function kms_default_create_time();

create or replace trigger kms_immutable_columns before update on kms_root_key_version
  for each row execute function kms_immutable_columns('private_id', 'root_key_id', 'create_time');
create or replace trigger kms_default_create_time_column before insert on kms_root_key_version
  for each row execute function kms_default_create_time();
create or replace trigger kms_version_column before insert on kms_root_key_version
  for each row execute function kms_version_column('root_key_id');

create or replace trigger kms_immutable_columns before update on kms_data_key
  for each row execute function kms_immutable_columns('private_id', 'root_key_id', 'purpose', 'create_time');
create or replace trigger kms_default_create_time_column before insert on kms_data_key
  for each row execute function kms_default_create_time();

create or replace trigger kms_immutable_columns before update on kms_data_key_version
  for each row execute function kms_immutable_columns('private_id', 'data_key_id', 'create_time');
create or replace trigger kms_default_create_time_column before insert on kms_data_key_version
  for each row execute function kms_default_create_time();
create or replace trigger kms_version_column before insert on kms_data_key_version
  for each row execute function kms_version_column('data_key_id');
