-- The triggers as they were.

update kms_extension_version set version = 'v4';

drop trigger kms_require_one_row_tables_kms_root_key;

drop trigger version_column_kms_root_key_version;
create trigger version_column_kms_root_key_version
after insert on kms_root_key_version
for each row
begin
  update kms_root_key_version
  set version = (
    select coalesce(max(version), 0) + 1
    from kms_root_key_version
    where root_key_id = new.root_key_id and rowid <> new.rowid
  )
  where rowid = new.rowid;
end;

drop trigger version_column_kms_data_key_version;
create trigger version_column_kms_data_key_version
after insert on kms_data_key_version
for each row
begin
  update kms_data_key_version
  set version = (
    select coalesce(max(version), 0) + 1
    from kms_data_key_version
    where data_key_id = new.data_key_id and rowid <> new.rowid
  )
  where rowid = new.rowid;
end;

drop trigger kms_default_create_time_column_kms_root_key;
create trigger kms_default_create_time_column_kms_root_key
after insert on kms_root_key
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_root_key');
  update kms_root_key set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger kms_default_create_time_column_kms_root_key_version;
create trigger kms_default_create_time_column_kms_root_key_version
after insert on kms_root_key_version
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_root_key_version');
  update kms_root_key_version set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger kms_default_create_time_column_kms_data_key;
create trigger kms_default_create_time_column_kms_data_key
after insert on kms_data_key
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_data_key');
  update kms_data_key set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger kms_default_create_time_column_kms_data_key_version;
create trigger kms_default_create_time_column_kms_data_key_version
after insert on kms_data_key_version
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_data_key_version');
  update kms_data_key_version set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger kms_default_create_time_column_kms_campaign;
create trigger kms_default_create_time_column_kms_campaign
after insert on kms_campaign
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_campaign');
  update kms_campaign set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger kms_default_create_time_column_kms_campaign_failure;
create trigger kms_default_create_time_column_kms_campaign_failure
after insert on kms_campaign_failure
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_campaign_failure');
  update kms_campaign_failure set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger kms_default_create_time_column_kms_root_check;
create trigger kms_default_create_time_column_kms_root_check
after insert on kms_root_check
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_root_check');
  update kms_root_check set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop table kms_restoring;
