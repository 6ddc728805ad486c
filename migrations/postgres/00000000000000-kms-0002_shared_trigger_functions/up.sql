-- Shared with Go kms by name and arguments; the bodies are ours.
--
-- This migration can run again over functions that exist: adopting a database
-- that Go kms made runs it to replace that database's functions, which depend
-- on the search_path of whoever writes.

-- Refuses a change of any column that the trigger names as an argument.
create or replace function kms_immutable_columns() returns trigger
language plpgsql
as $$
declare
  before_update constant jsonb := to_jsonb(old);
  after_update constant jsonb := to_jsonb(new);
  column_name text;
begin
  foreach column_name in array tg_argv loop
    if not before_update ? column_name then
      raise exception 'trigger % on %: no such column: %', tg_name, tg_table_name, column_name;
    end if;
    if after_update -> column_name is distinct from before_update -> column_name then
      raise exception 'immutable column: %.%', tg_table_name, column_name
        using errcode = '23601',
              schema = tg_table_schema,
              table = tg_table_name,
              column = column_name;
    end if;
  end loop;
  return new;
end;
$$;
comment on function kms_immutable_columns() is
  'before update: the columns given as arguments keep their values';

create or replace function kms_default_create_time() returns trigger
language plpgsql
as $$
begin
  new.create_time := now();
  return new;
end;
$$;
comment on function kms_default_create_time() is
  'before insert: create_time is the database''s, whatever the client sent';

create or replace function kms_update_time_column() returns trigger
language plpgsql
as $$
begin
  if new is distinct from old then
    new.update_time := now();
  end if;
  return new;
end;
$$;
comment on function kms_update_time_column() is
  'before update: update_time follows every change';

-- Numbers a new version: one more than the highest of its key. The argument of
-- the trigger tells which table it is on.
--
-- The scope's root key row is locked first, so that two inserts for one key
-- take turns. The root key and not the data key: it is what every change of a
-- scope's keys locks first, deletion included, so no new order of locks comes
-- about. No stronger than `for no key update`: foreign key checks of others on
-- that row don't wait for it.
--
-- Security definer, because the lock wants a right to update that a client
-- which only inserts doesn't need.
create or replace function kms_version_column() returns trigger
language plpgsql
security definer
as $$
begin
  case tg_argv[0]
    when 'root_key_id' then
      perform from kms_root_key
        where private_id = new.root_key_id
        for no key update;
      select coalesce(max(version), 0) + 1 into new.version
        from kms_root_key_version
        where root_key_id = new.root_key_id;
    when 'data_key_id' then
      perform from kms_root_key
        where private_id = (select root_key_id from kms_data_key where private_id = new.data_key_id)
        for no key update;
      select coalesce(max(version), 0) + 1 into new.version
        from kms_data_key_version
        where data_key_id = new.data_key_id;
  end case;
  return new;
end;
$$;
comment on function kms_version_column() is
  'before insert: version is the next number of the key, whatever the client sent';
revoke execute on function kms_version_column() from public;

-- Whoever writes, from whichever search_path: the functions see the tables of
-- the schema that they were made in.
do $$
declare
  function_name text;
begin
  foreach function_name in array array[
    'kms_immutable_columns', 'kms_default_create_time', 'kms_update_time_column', 'kms_version_column'
  ] loop
    execute format('alter function %I.%I() set search_path to %1$I, pg_temp', current_schema(), function_name);
  end loop;
end;
$$;

-- Where the column is a timestamp without time zone, it holds UTC, whatever
-- the session's time zone.
alter function kms_default_create_time() set timezone to 'UTC';
alter function kms_update_time_column() set timezone to 'UTC';
