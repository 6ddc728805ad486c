drop table kms_data_key_version;
drop table kms_data_key;
drop table kms_root_key_version;
drop table kms_root_key;
