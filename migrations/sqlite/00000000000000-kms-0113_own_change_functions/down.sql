update kms_extension_version set version = 'v4';
