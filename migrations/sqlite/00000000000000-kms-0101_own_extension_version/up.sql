-- Ours. The version of what these migrations add to the tables shared with Go
-- kms: the shared part's own version stays as Go expects it.

create table kms_extension_version (
  version text not null,
  create_time timestamp not null default current_timestamp,
  update_time timestamp not null default current_timestamp
);

create unique index kms_extension_version_one_row on kms_extension_version ((version is not null));

create trigger kms_immutable_columns_kms_extension_version
before update on kms_extension_version
for each row
begin
  select case
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_extension_version.create_time')
  end;
end;

create trigger update_time_column_kms_extension_version
after update on kms_extension_version
for each row
when new.update_time is not strftime('%Y-%m-%d %H:%M:%f', 'now')
begin
  update kms_extension_version
  set update_time = strftime('%Y-%m-%d %H:%M:%f', 'now')
  where rowid = new.rowid;
end;

insert into kms_extension_version (version) values ('v1');
