drop trigger kms_mark_on_update_to on kms_root_key;
drop trigger kms_mark_on_update on kms_root_key;
drop trigger kms_immutable_scope_id on kms_root_key;
create or replace trigger kms_immutable_columns before update on kms_root_key
  for each row execute function kms_immutable_columns('private_id', 'scope_id', 'create_time');
drop function kms_rename_scope(text, text);
