-- Ours. The version of what these migrations add to the tables shared with Go
-- kms: the shared part's own version stays as Go expects it.

create table kms_extension_version (
  version text not null,
  create_time kms_timestamp not null,
  update_time kms_timestamp not null
);
comment on table kms_extension_version is 'one row: version of what is added to the tables shared with Go kms';

create unique index kms_extension_version_one_row on kms_extension_version ((version is not null));

create trigger kms_immutable_columns before update on kms_extension_version
  for each row execute function kms_immutable_columns('create_time');
create trigger kms_default_create_time_column before insert on kms_extension_version
  for each row execute function kms_default_create_time();
create trigger kms_update_time_column before update on kms_extension_version
  for each row execute function kms_update_time_column();

insert into kms_extension_version (version) values ('v1');
