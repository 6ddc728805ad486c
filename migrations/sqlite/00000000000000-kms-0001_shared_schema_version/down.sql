drop table kms_schema_version;
