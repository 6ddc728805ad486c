-- Ours. Copying rows of another database into this one keeps what binds and
-- orders them. A row that comes with a number keeps it or is refused; and while
-- kms_restoring has a row, numbers and times are those of the copied rows:
--
--   begin immediate;
--   insert into kms_restoring (reason) values ('restore of the backup of Monday');
--   …
--   delete from kms_restoring;
--   commit;
--
-- Root keys are refused where a table with one row has none: nothing that is
-- written then can be read.
--
-- This migration can run again over what is there: `repair` does so.

create table if not exists kms_restoring (
  reason text not null primary key
);

-- The next number of the key. The row's own number doesn't count.

drop trigger if exists version_column_kms_root_key_version;
create trigger version_column_kms_root_key_version
after insert on kms_root_key_version
for each row
when new.version is null or not exists (select 1 from kms_restoring)
begin
  select case
    when new.version is not null and new.version is not (
      select coalesce(max(version), 0) + 1
      from kms_root_key_version
      where root_key_id = new.root_key_id and rowid <> new.rowid
    ) then raise(abort, 'not the next number of its key: kms_root_key_version.version')
  end;
  update kms_root_key_version
  set version = (
    select coalesce(max(version), 0) + 1
    from kms_root_key_version
    where root_key_id = new.root_key_id and rowid <> new.rowid
  )
  where rowid = new.rowid;
end;

drop trigger if exists version_column_kms_data_key_version;
create trigger version_column_kms_data_key_version
after insert on kms_data_key_version
for each row
when new.version is null or not exists (select 1 from kms_restoring)
begin
  select case
    when new.version is not null and new.version is not (
      select coalesce(max(version), 0) + 1
      from kms_data_key_version
      where data_key_id = new.data_key_id and rowid <> new.rowid
    ) then raise(abort, 'not the next number of its key: kms_data_key_version.version')
  end;
  update kms_data_key_version
  set version = (
    select coalesce(max(version), 0) + 1
    from kms_data_key_version
    where data_key_id = new.data_key_id and rowid <> new.rowid
  )
  where rowid = new.rowid;
end;

-- create_time is the database's, or that of a copied row.

drop trigger if exists kms_default_create_time_column_kms_root_key;
create trigger kms_default_create_time_column_kms_root_key
after insert on kms_root_key
for each row
when new.create_time is not current_timestamp and not exists (select 1 from kms_restoring)
begin
  insert into kms_create_time_correction (table_name) values ('kms_root_key');
  update kms_root_key set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger if exists kms_default_create_time_column_kms_root_key_version;
create trigger kms_default_create_time_column_kms_root_key_version
after insert on kms_root_key_version
for each row
when new.create_time is not current_timestamp and not exists (select 1 from kms_restoring)
begin
  insert into kms_create_time_correction (table_name) values ('kms_root_key_version');
  update kms_root_key_version set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger if exists kms_default_create_time_column_kms_data_key;
create trigger kms_default_create_time_column_kms_data_key
after insert on kms_data_key
for each row
when new.create_time is not current_timestamp and not exists (select 1 from kms_restoring)
begin
  insert into kms_create_time_correction (table_name) values ('kms_data_key');
  update kms_data_key set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger if exists kms_default_create_time_column_kms_data_key_version;
create trigger kms_default_create_time_column_kms_data_key_version
after insert on kms_data_key_version
for each row
when new.create_time is not current_timestamp and not exists (select 1 from kms_restoring)
begin
  insert into kms_create_time_correction (table_name) values ('kms_data_key_version');
  update kms_data_key_version set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger if exists kms_default_create_time_column_kms_campaign;
create trigger kms_default_create_time_column_kms_campaign
after insert on kms_campaign
for each row
when new.create_time is not current_timestamp and not exists (select 1 from kms_restoring)
begin
  insert into kms_create_time_correction (table_name) values ('kms_campaign');
  update kms_campaign set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger if exists kms_default_create_time_column_kms_campaign_failure;
create trigger kms_default_create_time_column_kms_campaign_failure
after insert on kms_campaign_failure
for each row
when new.create_time is not current_timestamp and not exists (select 1 from kms_restoring)
begin
  insert into kms_create_time_correction (table_name) values ('kms_campaign_failure');
  update kms_campaign_failure set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger if exists kms_default_create_time_column_kms_root_check;
create trigger kms_default_create_time_column_kms_root_check
after insert on kms_root_check
for each row
when new.create_time is not current_timestamp and not exists (select 1 from kms_restoring)
begin
  insert into kms_create_time_correction (table_name) values ('kms_root_check');
  update kms_root_check set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger if exists kms_require_one_row_tables_kms_root_key;
create trigger kms_require_one_row_tables_kms_root_key
before insert on kms_root_key
for each row
when not exists (select 1 from kms_restoring)
begin
  select case
    when not exists (select 1 from kms_collection_version)
      then raise(abort, 'kms_one_row_tables: kms_collection_version has no row')
    when not exists (select 1 from kms_schema_version)
      then raise(abort, 'kms_one_row_tables: kms_schema_version has no row')
    when not exists (select 1 from kms_extension_version)
      then raise(abort, 'kms_one_row_tables: kms_extension_version has no row')
  end;
end;

update kms_extension_version set version = 'v5' where version = 'v4';
