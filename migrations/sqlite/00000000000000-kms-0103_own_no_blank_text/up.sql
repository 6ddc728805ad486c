-- Ours. A table that Go kms made lets blank ids and empty purposes through,
-- and its check can't be replaced without rebuilding the table: here new rows
-- are held to the rule, and rows that are there stay.

create trigger kms_not_blank_kms_root_key
before insert on kms_root_key
for each row
begin
  select case
    when trim(new.private_id, ' ' || char(9, 10, 11, 12, 13)) = ''
      then raise(abort, 'blank: kms_root_key.private_id')
    when trim(new.scope_id, ' ' || char(9, 10, 11, 12, 13)) = ''
      then raise(abort, 'blank: kms_root_key.scope_id')
  end;
end;

create trigger kms_not_blank_kms_root_key_version
before insert on kms_root_key_version
for each row
begin
  select case
    when trim(new.private_id, ' ' || char(9, 10, 11, 12, 13)) = ''
      then raise(abort, 'blank: kms_root_key_version.private_id')
  end;
end;

create trigger kms_not_blank_kms_data_key
before insert on kms_data_key
for each row
begin
  select case
    when trim(new.private_id, ' ' || char(9, 10, 11, 12, 13)) = ''
      then raise(abort, 'blank: kms_data_key.private_id')
    when new.purpose = '' or trim(new.purpose, ' ' || char(9, 10, 11, 12, 13)) <> new.purpose
      then raise(abort, 'blank, or white space at an end: kms_data_key.purpose')
  end;
end;

create trigger kms_not_blank_kms_data_key_version
before insert on kms_data_key_version
for each row
begin
  select case
    when trim(new.private_id, ' ' || char(9, 10, 11, 12, 13)) = ''
      then raise(abort, 'blank: kms_data_key_version.private_id')
  end;
end;
