drop domain kms_version;
drop domain kms_timestamp;
drop domain kms_scope_id;
drop domain kms_private_id;
