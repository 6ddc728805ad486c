drop function kms_lock_and_read(boolean, text[], text[], text);
drop function kms_apply_creation(jsonb);
drop function kms_write_changes(jsonb);
