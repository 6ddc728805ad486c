-- Ours. The tables with one row set their create_time as the others do.

create trigger kms_default_create_time_column_kms_schema_version
after insert on kms_schema_version
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_schema_version');
  update kms_schema_version set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

create trigger kms_default_create_time_column_kms_collection_version
after insert on kms_collection_version
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_collection_version');
  update kms_collection_version set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

create trigger kms_default_create_time_column_kms_extension_version
after insert on kms_extension_version
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_extension_version');
  update kms_extension_version set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;
