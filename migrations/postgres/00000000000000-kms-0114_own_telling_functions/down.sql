drop function kms_check_deferred();
drop function kms_lock_campaign(text);
drop function kms_delete_keys(text, text);
drop function kms_insert_root_keys(text[], text[]);
drop function kms_lock_keys(boolean, text[]);
