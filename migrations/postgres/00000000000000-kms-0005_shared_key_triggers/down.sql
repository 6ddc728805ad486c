drop trigger kms_version_column on kms_data_key_version;
drop trigger kms_default_create_time_column on kms_data_key_version;
drop trigger kms_immutable_columns on kms_data_key_version;

drop trigger kms_default_create_time_column on kms_data_key;
drop trigger kms_immutable_columns on kms_data_key;

drop trigger kms_version_column on kms_root_key_version;
drop trigger kms_default_create_time_column on kms_root_key_version;
drop trigger kms_immutable_columns on kms_root_key_version;

drop trigger kms_default_create_time_column on kms_root_key;
drop trigger kms_immutable_columns on kms_root_key;
