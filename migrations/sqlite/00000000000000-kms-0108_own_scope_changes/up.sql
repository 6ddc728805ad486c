-- Ours. Which scopes changed with which collection version: a cache whose
-- collection version moved asks for them, and doesn't read the rows of others.
-- Triggers write it, so that every client's changes count.
--
-- A mark holds the collection version that is there at the change. A
-- transaction may change keys before it moves the collection version, and
-- nothing tells a trigger which of the two came first: so who reads counts a
-- mark with the move to its version and with the next move as well.

-- Former collection versions, each with the update_time that it had: without a
-- gap up to the present one.
create table kms_collection_history (
  version bigint not null primary key,
  update_time timestamp not null
) without rowid;

create table kms_scope_change (
  collection_version bigint not null,
  scope_id text not null,
  primary key (collection_version, scope_id)
) without rowid;

-- One up is a step. The last 10,000 versions are kept.
create trigger kms_collection_history_kms_collection_version
before update on kms_collection_version
for each row
when new.version = old.version + 1
begin
  delete from kms_collection_history where version <= old.version - 10000 or version >= old.version;
  delete from kms_scope_change where collection_version <= old.version - 10000;
  insert into kms_collection_history (version, update_time) values (old.version, old.update_time);
end;

-- Any other move, by announce_restore or by hand, leaves nothing that could be
-- told about before. So does another row.
create trigger kms_forget_changes_kms_collection_version
before update on kms_collection_version
for each row
when new.version is not old.version and new.version is not old.version + 1
begin
  delete from kms_collection_history;
  delete from kms_scope_change;
end;

create trigger kms_forget_changes_of_other_row_kms_collection_version
after insert on kms_collection_version
for each row
begin
  delete from kms_collection_history;
  delete from kms_scope_change;
end;

-- A deletion by cascade has removed the root key before the rows below it.
-- These find no scope then; the root key's own trigger has it.

create trigger kms_mark_deleted_kms_root_key
after delete on kms_root_key
for each row
begin
  insert into kms_scope_change (collection_version, scope_id)
  select version, old.scope_id from kms_collection_version where true
  on conflict do nothing;
end;

-- The first version of a root key comes with the scope, of which nobody can
-- have read keys before. Before the insertion and not after: `replace` removes
-- the row that it replaces without a word.
create trigger kms_mark_inserted_kms_root_key_version
before insert on kms_root_key_version
for each row
when exists (select 1 from kms_root_key_version where root_key_id = new.root_key_id)
begin
  insert into kms_scope_change (collection_version, scope_id)
  select c.version, r.scope_id from kms_collection_version c, kms_root_key r
  where r.private_id = new.root_key_id
  on conflict do nothing;
end;

-- The number of a row just inserted is set by an update of its own, which is no
-- change.
create trigger kms_mark_updated_kms_root_key_version
after update of key, version on kms_root_key_version
for each row
when new.key is not old.key or (old.version is not null and new.version is not old.version)
begin
  insert into kms_scope_change (collection_version, scope_id)
  select c.version, r.scope_id from kms_collection_version c, kms_root_key r
  where r.private_id = new.root_key_id
  on conflict do nothing;
end;

create trigger kms_mark_deleted_kms_root_key_version
after delete on kms_root_key_version
for each row
begin
  insert into kms_scope_change (collection_version, scope_id)
  select c.version, r.scope_id from kms_collection_version c, kms_root_key r
  where r.private_id = old.root_key_id
  on conflict do nothing;
end;

-- Each: nothing tells the first data key of a new scope from that of a scope
-- that was created without any.
create trigger kms_mark_inserted_kms_data_key
before insert on kms_data_key
for each row
begin
  insert into kms_scope_change (collection_version, scope_id)
  select c.version, r.scope_id from kms_collection_version c, kms_root_key r
  where r.private_id = new.root_key_id
  on conflict do nothing;
end;

create trigger kms_mark_deleted_kms_data_key
after delete on kms_data_key
for each row
begin
  insert into kms_scope_change (collection_version, scope_id)
  select c.version, r.scope_id from kms_collection_version c, kms_root_key r
  where r.private_id = old.root_key_id
  on conflict do nothing;
end;

-- The first version of a data key comes with it, which is marked.
create trigger kms_mark_inserted_kms_data_key_version
before insert on kms_data_key_version
for each row
when exists (select 1 from kms_data_key_version where data_key_id = new.data_key_id)
begin
  insert into kms_scope_change (collection_version, scope_id)
  select c.version, r.scope_id from kms_collection_version c, kms_data_key k, kms_root_key r
  where k.private_id = new.data_key_id and r.private_id = k.root_key_id
  on conflict do nothing;
end;

create trigger kms_mark_updated_kms_data_key_version
after update of key, root_key_version_id, version on kms_data_key_version
for each row
when new.key is not old.key
  or new.root_key_version_id is not old.root_key_version_id
  or (old.version is not null and new.version is not old.version)
begin
  insert into kms_scope_change (collection_version, scope_id)
  select c.version, r.scope_id from kms_collection_version c, kms_data_key k, kms_root_key r
  where k.private_id = new.data_key_id and r.private_id = k.root_key_id
  on conflict do nothing;
end;

create trigger kms_mark_deleted_kms_data_key_version
after delete on kms_data_key_version
for each row
begin
  insert into kms_scope_change (collection_version, scope_id)
  select c.version, r.scope_id from kms_collection_version c, kms_data_key k, kms_root_key r
  where k.private_id = old.data_key_id and r.private_id = k.root_key_id
  on conflict do nothing;
end;

update kms_extension_version set version = 'v2';
