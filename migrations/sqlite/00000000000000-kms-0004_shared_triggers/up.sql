-- Shared with Go kms by name; what the triggers do is ours, where Go's do it
-- wrongly: its numbering counts a number that the client sent, its create_time
-- is the client's, its update_time is local time.
--
-- This migration can run again over triggers that exist: adopting a database
-- that Go kms made runs it to replace that database's triggers.

-- Has a row only while one of the triggers below corrects the create_time of a
-- row just inserted, and is how the immutability triggers tell that from an
-- update of the client's. Empty between statements.
create table if not exists kms_create_time_correction (
  table_name text not null primary key
);

-- Columns that an update must leave alone. Rewrapping changes key, version
-- and root_key_version_id: they are not among them.

drop trigger if exists kms_immutable_columns_kms_schema_version;
create trigger kms_immutable_columns_kms_schema_version
before update on kms_schema_version
for each row
begin
  select case
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_schema_version.create_time')
  end;
end;

drop trigger if exists kms_immutable_columns_kms_collection_version;
create trigger kms_immutable_columns_kms_collection_version
before update on kms_collection_version
for each row
begin
  select case
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_collection_version.create_time')
  end;
end;

drop trigger if exists kms_immutable_columns_kms_root_key;
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

drop trigger if exists kms_immutable_columns_kms_root_key_version;
create trigger kms_immutable_columns_kms_root_key_version
before update on kms_root_key_version
for each row
begin
  select case
    when new.private_id is not old.private_id then raise(abort, 'immutable column: kms_root_key_version.private_id')
    when new.root_key_id is not old.root_key_id then raise(abort, 'immutable column: kms_root_key_version.root_key_id')
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_root_key_version.create_time')
  end;
end;

drop trigger if exists kms_immutable_columns_kms_data_key;
create trigger kms_immutable_columns_kms_data_key
before update on kms_data_key
for each row
begin
  select case
    when new.private_id is not old.private_id then raise(abort, 'immutable column: kms_data_key.private_id')
    when new.root_key_id is not old.root_key_id then raise(abort, 'immutable column: kms_data_key.root_key_id')
    when new.purpose is not old.purpose then raise(abort, 'immutable column: kms_data_key.purpose')
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_data_key.create_time')
  end;
end;

drop trigger if exists kms_immutable_columns_kms_data_key_version;
create trigger kms_immutable_columns_kms_data_key_version
before update on kms_data_key_version
for each row
begin
  select case
    when new.private_id is not old.private_id then raise(abort, 'immutable column: kms_data_key_version.private_id')
    when new.data_key_id is not old.data_key_id then raise(abort, 'immutable column: kms_data_key_version.data_key_id')
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_data_key_version.create_time')
  end;
end;

-- create_time is the database's. The column's default already is, so there is
-- work only where a client sent a time of its own. (The time is the same
-- throughout a statement.)

drop trigger if exists kms_default_create_time_column_kms_root_key;
create trigger kms_default_create_time_column_kms_root_key
after insert on kms_root_key
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_root_key');
  update kms_root_key set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger if exists kms_default_create_time_column_kms_root_key_version;
create trigger kms_default_create_time_column_kms_root_key_version
after insert on kms_root_key_version
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_root_key_version');
  update kms_root_key_version set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger if exists kms_default_create_time_column_kms_data_key;
create trigger kms_default_create_time_column_kms_data_key
after insert on kms_data_key
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_data_key');
  update kms_data_key set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

drop trigger if exists kms_default_create_time_column_kms_data_key_version;
create trigger kms_default_create_time_column_kms_data_key_version
after insert on kms_data_key_version
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_data_key_version');
  update kms_data_key_version set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

-- The next number of the key, whatever the client sent: the row's own number
-- doesn't count.

drop trigger if exists version_column_kms_root_key_version;
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

drop trigger if exists version_column_kms_data_key_version;
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

-- update_time follows every change, in milliseconds: two changes within one
-- second differ. `when` ends the recursion where `recursive_triggers` is on.

drop trigger if exists update_time_column_kms_version;
create trigger update_time_column_kms_version
after update on kms_schema_version
for each row
when new.update_time is not strftime('%Y-%m-%d %H:%M:%f', 'now')
begin
  update kms_schema_version
  set update_time = strftime('%Y-%m-%d %H:%M:%f', 'now')
  where rowid = new.rowid;
end;

drop trigger if exists update_time_column_kms_collection_version;
create trigger update_time_column_kms_collection_version
after update on kms_collection_version
for each row
when new.update_time is not strftime('%Y-%m-%d %H:%M:%f', 'now')
begin
  update kms_collection_version
  set update_time = strftime('%Y-%m-%d %H:%M:%f', 'now')
  where rowid = new.rowid;
end;
