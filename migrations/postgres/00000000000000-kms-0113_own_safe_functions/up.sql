-- Ours. All functions are safe from objects of others: they find types,
-- operators and functions in pg_catalog only, and name the schema of their
-- tables. A role that may create objects in that schema could else define an
-- operator `=` for the type of an id, and a function that runs with the rights
-- of its owner would call it.
--
-- They also leave alone what a restore writes, and refuse keys where the
-- collection version has no row.
--
-- This migration can run again over what is there: `repair` does so.

do $do$
declare
  schema_name constant text := current_schema();

  -- Whether the session copies rows of another database. What pg_dump writes
  -- begins with two settings that no other session has together; a session of
  -- another tool says `set kms_kit.restoring = on`.
  restoring constant text := $$(coalesce(current_setting('kms_kit.restoring', true), '') = 'on'
    or (current_setting('check_function_bodies') = 'off' and current_setting('row_security') = 'off'))$$;
begin
  execute format($text$
create or replace function %1$I.kms_immutable_columns() returns trigger
language plpgsql
set search_path to pg_catalog, pg_temp
as $$
declare
  before_update constant jsonb := to_jsonb(old);
  after_update constant jsonb := to_jsonb(new);
  column_name text;
begin
  foreach column_name in array tg_argv loop
    if not before_update ? column_name then
      raise exception 'trigger %% on %%: no such column: %%', tg_name, tg_table_name, column_name;
    end if;
    if after_update -> column_name is distinct from before_update -> column_name then
      raise exception 'immutable column: %%.%%', tg_table_name, column_name
        using errcode = '23601',
              schema = tg_table_schema,
              table = tg_table_name,
              column = column_name;
    end if;
  end loop;
  return new;
end;
$$;

create or replace function %1$I.kms_default_create_time() returns trigger
language plpgsql
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
begin
  if new.create_time is null or not %2$s then
    new.create_time := now();
  end if;
  return new;
end;
$$;
comment on function %1$I.kms_default_create_time() is
  'before insert: create_time is the database''s, whatever the client sent; a restore keeps it';

create or replace function %1$I.kms_update_time_column() returns trigger
language plpgsql
set search_path to pg_catalog, pg_temp
set timezone to 'UTC'
as $$
begin
  if new is distinct from old then
    new.update_time := now();
  end if;
  return new;
end;
$$;
$text$, schema_name, restoring);

  -- Numbers a new version: one more than the highest of its key. The argument
  -- of the trigger tells which table it is on.
  --
  -- The number is bound to the key. A row that comes with a number is copied
  -- from somewhere, and keeps it or is refused; 1 is the default of the type.
  --
  -- The scope's root key row is locked first, so that two inserts for one key
  -- take turns. The root key and not the data key: it is what every change of a
  -- scope's keys locks first, deletion included, so no new order of locks comes
  -- about. No stronger than `for no key update`: foreign key checks of others on
  -- that row don't wait for it.
  --
  -- Security definer, because the lock wants a right to update that a client
  -- which only inserts doesn't need.
  execute format($text$
create or replace function %1$I.kms_version_column() returns trigger
language plpgsql
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  next_version bigint;
begin
  if %2$s then
    return new;
  end if;
  case tg_argv[0]
    when 'root_key_id' then
      perform from %1$I.kms_root_key
        where private_id = new.root_key_id
        for no key update;
      select coalesce(max(version), 0) + 1 into next_version
        from %1$I.kms_root_key_version
        where root_key_id = new.root_key_id;
    when 'data_key_id' then
      perform from %1$I.kms_root_key
        where private_id = (select root_key_id from %1$I.kms_data_key where private_id = new.data_key_id)
        for no key update;
      select coalesce(max(version), 0) + 1 into next_version
        from %1$I.kms_data_key_version
        where data_key_id = new.data_key_id;
  end case;
  if new.version not in (1, next_version) then
    raise exception 'version %% of %% is not the next of its key, which is %%', new.version, new.private_id, next_version
      using errcode = '23514',
            schema = tg_table_schema,
            table = tg_table_name,
            column = 'version',
            hint = 'leave the number to the database; to copy rows of another database: set kms_kit.restoring = on';
  end if;
  new.version := next_version;
  return new;
end;
$$;
comment on function %1$I.kms_version_column() is
  'before insert: version is the next number of the key, and no client''s; a restore keeps it';
$text$, schema_name, restoring);

  execute format($text$
create or replace function %1$I.kms_bump_collection_version() returns trigger
language plpgsql
security definer
set search_path to pg_catalog, pg_temp
as $$
begin
  update %1$I.kms_collection_version set version = version + 1;
  return null;
end;
$$;

create or replace function %1$I.kms_lock_for_change(bump boolean, root_key_ids text[]) returns text
language plpgsql
set search_path to pg_catalog, pg_temp
as $$
begin
  if bump then
    update %1$I.kms_collection_version set version = version + 1;
  end if;
  perform from %1$I.kms_root_key
    where private_id = any (root_key_ids)
    order by private_id
    for no key update;
  return 'ok';
exception
  when deadlock_detected then return 'deadlock';
  when lock_not_available then return 'busy';
end;
$$;

create or replace function %1$I.kms_lock_key_version(version_id text) returns text
language plpgsql
set search_path to pg_catalog, pg_temp
as $$
begin
  perform from %1$I.kms_root_key_version where private_id = version_id for update nowait;
  if found then
    return 'ok';
  end if;
  perform from %1$I.kms_data_key_version where private_id = version_id for update nowait;
  if found then
    return 'ok';
  end if;
  return 'missing';
exception
  when lock_not_available then return 'busy';
  when deadlock_detected then return 'deadlock';
end;
$$;
$text$, schema_name, restoring);

  -- Without these rows nothing that is written can be read: a process would
  -- create keys, and no process would open them.
  execute format($text$
create or replace function %1$I.kms_require_one_row_tables() returns trigger
language plpgsql
security definer
set search_path to pg_catalog, pg_temp
as $$
declare
  empty_table constant text := case
    when not exists (select from %1$I.kms_collection_version) then 'kms_collection_version'
    when not exists (select from %1$I.kms_schema_version) then 'kms_schema_version'
    when not exists (select from %1$I.kms_extension_version) then 'kms_extension_version'
  end;
begin
  if empty_table is not null and not %2$s then
    raise exception '%% has no row', empty_table
      using errcode = '23514',
            constraint = 'kms_one_row_tables',
            schema = tg_table_schema,
            table = empty_table,
            hint = 'repair of kms-migrations puts it back';
  end if;
  return null;
end;
$$;
comment on function %1$I.kms_require_one_row_tables() is
  'before insert of root keys: the tables with one row have it';
revoke execute on function %1$I.kms_require_one_row_tables() from public;
$text$, schema_name, restoring);
end;
$do$;

create or replace trigger kms_require_one_row_tables before insert on kms_root_key
  for each statement execute function kms_require_one_row_tables();

update kms_extension_version set version = 'v5' where version = 'v4';
