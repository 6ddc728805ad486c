drop function kms_lock_key_version(text);
drop function kms_lock_for_change(boolean, text[]);
