-- Ours. They take the locks of a change and answer with a code. Clients that
-- see an error only by its message, in the server's language, can thus tell a
-- deadlock from a row that is taken. A serialization failure (40001) is not
-- caught: it ends the transaction that it happens in.
--
-- Security invoker: whoever calls needs the rights to lock those rows anyway.

-- 'ok', 'deadlock' or 'busy'. With an answer other than 'ok' nothing is locked
-- and nothing was bumped.
create function kms_lock_for_change(bump boolean, root_key_ids text[]) returns text
language plpgsql
as $$
begin
  if bump then
    update kms_collection_version set version = version + 1;
  end if;
  perform from kms_root_key
    where private_id = any (root_key_ids)
    order by private_id
    for no key update;
  return 'ok';
exception
  when deadlock_detected then return 'deadlock';
  when lock_not_available then return 'busy';
end;
$$;
comment on function kms_lock_for_change(boolean, text[]) is
  'locks root keys in order of their ids, after bumping the collection version if asked: ok, deadlock or busy';

-- 'ok', 'missing', 'busy' or 'deadlock'. Never waits: a version that another
-- transaction holds is in use.
create function kms_lock_key_version(version_id text) returns text
language plpgsql
as $$
begin
  perform from kms_root_key_version where private_id = version_id for update nowait;
  if found then
    return 'ok';
  end if;
  perform from kms_data_key_version where private_id = version_id for update nowait;
  if found then
    return 'ok';
  end if;
  return 'missing';
exception
  when lock_not_available then return 'busy';
  when deadlock_detected then return 'deadlock';
end;
$$;
comment on function kms_lock_key_version(text) is
  'locks a root or data key version without waiting: ok, missing, busy or deadlock';

do $$
begin
  execute format(
    'alter function %I.kms_lock_for_change(boolean, text[]) set search_path to %1$I, pg_temp', current_schema());
  execute format(
    'alter function %I.kms_lock_key_version(text) set search_path to %1$I, pg_temp', current_schema());
end;
$$;
