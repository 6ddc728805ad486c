-- Ours. A known text, encrypted by each root key (key_id, as the wrapped keys
-- name it): a process whose root key does not open it has another key in the
-- place of that one, and must not wrap anything with it.

create table kms_root_check (
  key_id text not null primary key,
  check_blob blob not null,
  create_time timestamp not null default current_timestamp,
  update_time timestamp not null default current_timestamp
);

create trigger kms_immutable_columns_kms_root_check
before update on kms_root_check
for each row
begin
  select case
    when new.key_id is not old.key_id then raise(abort, 'immutable column: kms_root_check.key_id')
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_root_check.create_time')
  end;
end;

create trigger kms_default_create_time_column_kms_root_check
after insert on kms_root_check
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_root_check');
  update kms_root_check set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

create trigger update_time_column_kms_root_check
after update on kms_root_check
for each row
when new.update_time is not strftime('%Y-%m-%d %H:%M:%f', 'now')
begin
  update kms_root_check
  set update_time = strftime('%Y-%m-%d %H:%M:%f', 'now')
  where rowid = new.rowid;
end;

update kms_extension_version set version = 'v3';
