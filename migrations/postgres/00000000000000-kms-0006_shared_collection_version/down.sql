update kms_schema_version set version = 'v0.0.1';

drop table kms_collection_version;
