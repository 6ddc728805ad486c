-- Shared with Go kms. Which version of the shared part this database holds.

create table kms_schema_version (
  version text not null,
  create_time kms_timestamp,
  update_time kms_timestamp
);
comment on table kms_schema_version is 'one row: version of the tables shared with Go kms';

create unique index kms_schema_version_one_row on kms_schema_version ((version is not null));

create trigger kms_immutable_columns before update on kms_schema_version
  for each row execute function kms_immutable_columns('create_time');
create trigger kms_default_create_time_column before insert on kms_schema_version
  for each row execute function kms_default_create_time();
create trigger kms_update_time_column before update on kms_schema_version
  for each row execute function kms_update_time_column();

-- As in Go kms, v0.0.2 is reached with the collection version.
insert into kms_schema_version (version) values ('v0.0.1');
