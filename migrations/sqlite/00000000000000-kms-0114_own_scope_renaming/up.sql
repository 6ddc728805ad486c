-- Ours. A scope gets another id, in place, so that whatever references its key
-- versions is not touched.
--
-- The id of a scope is immutable to everybody else still: the wrapped keys are
-- bound to it, and who changes it must encrypt them anew. So an update cascade
-- from the application's table is refused, as before.

-- Whoever has encrypted a scope's keys for another id inserts a row here: then
-- the scope has that id, and the row is gone again.
create table kms_scope_renaming (
  root_key_id text not null primary key,
  scope_id text not null
);

create trigger kms_rename_scope_kms_scope_renaming
after insert on kms_scope_renaming
for each row
begin
  update kms_root_key set scope_id = new.scope_id where private_id = new.root_key_id;
  delete from kms_scope_renaming where root_key_id = new.root_key_id;
end;

drop trigger kms_immutable_columns_kms_root_key;
create trigger kms_immutable_columns_kms_root_key
before update on kms_root_key
for each row
begin
  select case
    when new.private_id is not old.private_id then raise(abort, 'immutable column: kms_root_key.private_id')
    when new.scope_id is not old.scope_id
      and not exists (
        select 1 from kms_scope_renaming
        where root_key_id = old.private_id and scope_id = new.scope_id
      )
      then raise(abort, 'immutable column: kms_root_key.scope_id')
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_root_key.create_time')
  end;
end;

-- Caches of both ids are told.
create trigger kms_mark_renamed_kms_root_key
after update of scope_id on kms_root_key
for each row
when new.scope_id is not old.scope_id
begin
  insert into kms_scope_change (collection_version, scope_id)
  select version, old.scope_id from kms_collection_version where true
  on conflict do nothing;
  insert into kms_scope_change (collection_version, scope_id)
  select version, new.scope_id from kms_collection_version where true
  on conflict do nothing;
end;
