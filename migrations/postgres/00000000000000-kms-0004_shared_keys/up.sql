-- Shared with Go kms. Root keys, data keys and their versions.

create table kms_root_key (
  private_id kms_private_id primary key,
  scope_id kms_scope_id not null unique,
  create_time kms_timestamp
);
comment on table kms_root_key is 'one root key per scope';

create table kms_root_key_version (
  private_id kms_private_id primary key,
  root_key_id kms_private_id not null
    constraint kms_root_key_fkey references kms_root_key (private_id)
    on delete cascade on update cascade,
  version kms_version,
  key bytea not null
    constraint not_empty_key check (length(key) > 0),
  create_time kms_timestamp,
  constraint kms_root_key_version_root_key_id_version_uq unique (root_key_id, version)
);
comment on table kms_root_key_version is 'root key material, encrypted by the root wrapper';

create table kms_data_key (
  private_id kms_private_id primary key,
  root_key_id kms_private_id not null
    constraint kms_root_key_fkey references kms_root_key (private_id)
    on delete cascade on update cascade,
  purpose text not null
    constraint not_start_end_whitespace_purpose check (length(trim(purpose)) = length(purpose)),
  create_time kms_timestamp,
  constraint kms_data_key_root_key_id_purpose_uq unique (root_key_id, purpose)
);
comment on table kms_data_key is 'one data key per scope and purpose';

-- The foreign key to the root key version cascades here, as Go kms makes it;
-- one of our own migrations replaces it.
create table kms_data_key_version (
  private_id kms_private_id primary key,
  data_key_id kms_private_id not null
    constraint kms_data_key_fkey references kms_data_key (private_id)
    on delete cascade on update cascade,
  root_key_version_id kms_private_id not null
    constraint kms_root_key_version_fkey references kms_root_key_version (private_id)
    on delete cascade on update cascade,
  version kms_version,
  key bytea not null
    constraint not_empty_key check (length(key) > 0),
  create_time kms_timestamp,
  constraint kms_data_key_version_data_key_id_version_uq unique (data_key_id, version)
);
comment on table kms_data_key_version is
  'data key material, encrypted by a root key version of the same scope';
