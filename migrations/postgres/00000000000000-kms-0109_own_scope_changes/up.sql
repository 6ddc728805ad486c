-- Ours. Which scopes changed with which collection version: a cache whose
-- collection version moved asks for them, and doesn't read the rows of others.
--
-- Triggers write it, so that every client's changes count. What makes it
-- complete: a transaction that changes keys updates the collection version
-- first. It holds that row until it ends, and so these transactions are serial.

-- Nobody changes keys from here on until the end of this transaction: there is
-- no change of which only a part is noted.
lock table kms_collection_version, kms_root_key, kms_root_key_version, kms_data_key, kms_data_key_version
  in share row exclusive mode;

create table kms_collection_history (
  version bigint primary key,
  update_time timestamp not null
);
comment on table kms_collection_history is
  'former collection versions, each with the update_time that it had; without a gap up to the present one';

create table kms_scope_change (
  collection_version bigint not null,
  scope_id text not null,
  primary key (collection_version, scope_id)
);
comment on table kms_scope_change is 'scopes whose keys a transaction changed, by the collection version it moved to';
comment on column kms_scope_change.collection_version is
  'negative, the id of the transaction, where that has not moved the collection version: the next move makes it its own';

-- All functions look up rows by key, whatever the statistics say of a table
-- that was empty a moment ago: hence `enable_seqscan`. They find operators in
-- pg_catalog only, and name the schema of their tables: who may create objects
-- in that schema can't have their own called.

do $do$
declare
  -- A mark of each changed row's scope. The transaction's own version if it
  -- has moved the collection version, which kms_note_collection_version says;
  -- the id is there so that only this transaction believes it.
  --
  -- If it has not, a scope that it created itself needs no mark: nobody else
  -- can have read its keys. Two transactions that create scopes thus have
  -- nothing to wait for. Nor do the others: their marks have a key of their own.
  --
  -- A deletion by cascade has removed the root key before the rows below it.
  -- These find no scope then; the root key's own trigger has it.
  mark constant text := $text$
create function %1$I.kms_mark_%2$s() returns trigger
language plpgsql
security definer
set search_path to pg_catalog, pg_temp
set enable_seqscan to off
as $$
declare
  transaction_id constant text := pg_current_xact_id()::text;
  noted constant text := current_setting('kms_kit.collection_version', true);
begin
  if split_part(noted, ':', 1) = transaction_id then
    insert into %1$I.kms_scope_change (collection_version, scope_id)
      select split_part(noted, ':', 2)::bigint, r.scope_id::text
      from %3$s
      on conflict do nothing;
  else
    insert into %1$I.kms_scope_change (collection_version, scope_id)
      select - transaction_id::bigint, r.scope_id::text
      from %3$s
      where r.create_time is distinct from now()
      on conflict do nothing;
  end if;
  return null;
end;
$$;
comment on function %1$I.kms_mark_%2$s() is
  'after a change of %2$s: notes whose keys changed';
revoke execute on function %1$I.kms_mark_%2$s() from public;
$text$;
  schema_name constant text := current_schema();
begin
  execute format(mark, schema_name, 'kms_root_key', 'changed r');
  execute format(mark, schema_name, 'kms_root_key_version',
    format('changed c join %I.kms_root_key r on r.private_id = c.root_key_id', schema_name));
  execute format(mark, schema_name, 'kms_data_key',
    format('changed c join %I.kms_root_key r on r.private_id = c.root_key_id', schema_name));
  execute format(mark, schema_name, 'kms_data_key_version',
    format('changed c join %1$I.kms_data_key k on k.private_id = c.data_key_id '
      'join %1$I.kms_root_key r on r.private_id = k.root_key_id', schema_name));

  execute format($text$
create function %1$I.kms_forget_changes() returns trigger
language plpgsql
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  delete from %1$I.kms_collection_history;
  delete from %1$I.kms_scope_change;
  return null;
end;
$$;
comment on function %1$I.kms_forget_changes() is
  'after insert of another collection version: there is no way to it from before';
revoke execute on function %1$I.kms_forget_changes() from public;
$text$, schema_name);

  -- Whose keys a truncate took, no trigger is told. It moves the collection
  -- version by two, which is to go elsewhere.
  execute format($text$
create function %1$I.kms_leap_collection_version() returns trigger
language plpgsql
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  update %1$I.kms_collection_version set version = version + 2;
  return null;
end;
$$;
comment on function %1$I.kms_leap_collection_version() is
  'before truncate of a table of keys: caches read all keys again';
revoke execute on function %1$I.kms_leap_collection_version() from public;
$text$, schema_name);

  -- One up is a step. Any other move, by announce_restore or by hand, leaves
  -- nothing that could be told about before.
  --
  -- Kept is the history of the last 10,000 versions. What falls out is found by
  -- its key and not by a range: a range would go over all that fell out before
  -- and that a long transaction keeps from being vacuumed.
  execute format($text$
create function %1$I.kms_note_collection_version() returns trigger
language plpgsql
security definer
set search_path to pg_catalog, pg_temp
set enable_seqscan to off
set jit to off
as $$
declare
  former constant bigint := old.version;
  present constant bigint := new.version;
begin
  if present = former then
    return new;
  end if;
  if present = former + 1 then
    insert into %1$I.kms_collection_history (version, update_time)
      values (former, old.update_time)
      on conflict (version) do update set update_time = excluded.update_time;
    delete from %1$I.kms_collection_history where version = former - 10000;
    delete from %1$I.kms_scope_change where collection_version = former - 10000;
    if exists (select from %1$I.kms_scope_change where collection_version < 0) then
      with unclaimed as (
        delete from %1$I.kms_scope_change where collection_version < 0 returning scope_id
      )
      insert into %1$I.kms_scope_change (collection_version, scope_id)
        select present, scope_id from unclaimed
        on conflict do nothing;
    end if;
  else
    delete from %1$I.kms_collection_history;
    delete from %1$I.kms_scope_change;
  end if;
  perform set_config('kms_kit.collection_version', pg_current_xact_id()::text || ':' || present::text, true);
  return new;
end;
$$;
comment on function %1$I.kms_note_collection_version() is
  'before the collection version moves: keeps what it was, and tells the triggers of this transaction what it is';
revoke execute on function %1$I.kms_note_collection_version() from public;
$text$, schema_name);
end;
$do$;

create trigger kms_note_collection_version before update on kms_collection_version
  for each row execute function kms_note_collection_version();
create trigger kms_forget_changes after insert on kms_collection_version
  for each statement execute function kms_forget_changes();

create trigger kms_mark_on_delete after delete on kms_root_key
  referencing old table as changed for each statement execute function kms_mark_kms_root_key();

create trigger kms_mark_on_insert after insert on kms_root_key_version
  referencing new table as changed for each statement execute function kms_mark_kms_root_key_version();
create trigger kms_mark_on_update after update on kms_root_key_version
  referencing new table as changed for each statement execute function kms_mark_kms_root_key_version();
create trigger kms_mark_on_delete after delete on kms_root_key_version
  referencing old table as changed for each statement execute function kms_mark_kms_root_key_version();

create trigger kms_mark_on_insert after insert on kms_data_key
  referencing new table as changed for each statement execute function kms_mark_kms_data_key();
create trigger kms_mark_on_delete after delete on kms_data_key
  referencing old table as changed for each statement execute function kms_mark_kms_data_key();

create trigger kms_mark_on_insert after insert on kms_data_key_version
  referencing new table as changed for each statement execute function kms_mark_kms_data_key_version();
create trigger kms_mark_on_update after update on kms_data_key_version
  referencing new table as changed for each statement execute function kms_mark_kms_data_key_version();
create trigger kms_mark_on_delete after delete on kms_data_key_version
  referencing old table as changed for each statement execute function kms_mark_kms_data_key_version();

create trigger kms_leap_collection_version_on_truncate before truncate on kms_root_key
  for each statement execute function kms_leap_collection_version();
create trigger kms_leap_collection_version_on_truncate before truncate on kms_root_key_version
  for each statement execute function kms_leap_collection_version();
create trigger kms_leap_collection_version_on_truncate before truncate on kms_data_key
  for each statement execute function kms_leap_collection_version();
create trigger kms_leap_collection_version_on_truncate before truncate on kms_data_key_version
  for each statement execute function kms_leap_collection_version();

update kms_extension_version set version = 'v2';
