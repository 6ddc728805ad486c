drop function kms_version_column();
drop function kms_update_time_column();
drop function kms_default_create_time();
drop function kms_immutable_columns();
