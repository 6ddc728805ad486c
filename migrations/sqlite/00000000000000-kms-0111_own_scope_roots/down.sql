update kms_extension_version set version = 'v3';

drop table kms_scope_root;
