drop function kms_check_deferred();
drop function kms_lock_campaign(text);
drop function kms_rewrap_data_key_versions(text[], text[], bytea[]);
drop function kms_rewrap_root_key_versions(text[], bytea[]);
drop function kms_insert_data_key_versions(text[], text[], text[], bytea[]);
drop function kms_insert_data_keys(text[], text[], text[]);
drop function kms_insert_root_key_versions(text[], text[], bytea[]);
drop function kms_insert_root_keys(text[], text[]);
drop function kms_lock_keys(boolean, text[]);
