-- Ours. The statements of a change, as functions that tell why they failed.
--
-- Some clients, diesel among them, see an error by its message, which is in the
-- server's language, and not by its SQLSTATE. What such a client has to tell
-- apart is raised again with the SQLSTATE in the hint; all else is raised as it
-- is.
--
-- Security invoker: whoever calls needs the rights for those rows anyway. Each
-- names the schema of its tables, and finds all else in pg_catalog.

do $do$
declare
  schema_name constant text := current_schema();

  attributes constant text := $$language plpgsql
set search_path to pg_catalog, pg_temp$$;

  telling constant text := $$exception
  when deadlock_detected or lock_not_available or query_canceled or insufficient_resources then
    raise exception using errcode = sqlstate, message = sqlerrm, hint = 'SQLSTATE ' || sqlstate;$$;
begin
  execute format($text$
create function %1$I.kms_lock_keys(bump boolean, root_key_ids text[]) returns void
%2$s
as $$
begin
  if bump then
    update %1$I.kms_collection_version set version = version + 1;
  end if;
  perform from %1$I.kms_root_key
    where private_id = any (root_key_ids)
    order by private_id
    for no key update;
%3$s
end;
$$;
comment on function %1$I.kms_lock_keys(boolean, text[]) is
  'locks root keys in order of their ids, after bumping the collection version if asked';

create function %1$I.kms_insert_root_keys(ids text[], scope_ids text[]) returns setof text
%2$s
as $$
begin
  return query
    insert into %1$I.kms_root_key (private_id, scope_id)
      select n.id, n.scope_id from unnest(ids, scope_ids) as n (id, scope_id)
      on conflict (scope_id) do nothing
      returning private_id::text;
%3$s
end;
$$;
comment on function %1$I.kms_insert_root_keys(text[], text[]) is
  'inserts root keys of scopes that have none, and returns their ids';

create function %1$I.kms_delete_keys(root_key_id text, key_version_id text) returns bigint
%2$s
as $$
declare
  deleted bigint;
begin
  if key_version_id is null then
    delete from %1$I.kms_root_key where private_id = root_key_id;
  elsif key_version_id like 'krkv%%' then
    delete from %1$I.kms_root_key_version where private_id = key_version_id;
  else
    delete from %1$I.kms_data_key_version where private_id = key_version_id;
  end if;
  get diagnostics deleted = row_count;
  return deleted;
%3$s
end;
$$;
comment on function %1$I.kms_delete_keys(text, text) is
  'deletes a root key with all below it, or one key version, and returns how many there were';

create function %1$I.kms_lock_campaign(campaign_id text) returns void
%2$s
as $$
begin
  perform from %1$I.kms_campaign where id = campaign_id for no key update;
%3$s
end;
$$;
comment on function %1$I.kms_lock_campaign(text) is
  'locks a campaign, which nobody moves on then';

create function %1$I.kms_check_deferred() returns void
%2$s
as $$
begin
  set constraints all immediate;
%3$s
end;
$$;
comment on function %1$I.kms_check_deferred() is
  'checks what is deferred to the commit, so that it can tell why it failed';
$text$, schema_name, attributes, telling);
end;
$do$;
