update kms_extension_version set version = 'v2';
drop table kms_root_check;
