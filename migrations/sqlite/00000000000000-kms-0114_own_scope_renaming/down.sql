drop trigger kms_mark_renamed_kms_root_key;
drop trigger kms_immutable_columns_kms_root_key;
create trigger kms_immutable_columns_kms_root_key
before update on kms_root_key
for each row
begin
  select case
    when new.private_id is not old.private_id then raise(abort, 'immutable column: kms_root_key.private_id')
    when new.scope_id is not old.scope_id then raise(abort, 'immutable column: kms_root_key.scope_id')
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_root_key.create_time')
  end;
end;
drop table kms_scope_renaming;
