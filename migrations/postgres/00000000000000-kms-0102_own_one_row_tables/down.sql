drop trigger kms_default_create_time_column on kms_collection_version;

alter table kms_collection_version
  alter column create_time set default current_timestamp,
  alter column update_time set default current_timestamp;

alter table kms_extension_version drop constraint kms_extension_version_pkey;
alter table kms_collection_version drop constraint kms_collection_version_pkey;
alter table kms_schema_version drop constraint kms_schema_version_pkey;

-- The primary key had set it; the column's domain says it already.
alter table kms_collection_version alter column version drop not null;
