-- Ours. A scope gets another id, in place, so that whatever references its key
-- versions is not touched.
--
-- The id of a scope is immutable to everybody else still: the wrapped keys are
-- bound to it, and who changes it must encrypt them anew. So an update cascade
-- from the application's table is refused, as before.

do $do$
begin
  execute format($text$
create function %1$I.kms_rename_scope(renamed_root_key text, new_scope_id text) returns void
language plpgsql
set search_path to pg_catalog, pg_temp
as $$
begin
  perform set_config('kms_kit.renaming', pg_current_xact_id()::text || ':' || renamed_root_key, true);
  update %1$I.kms_root_key set scope_id = new_scope_id where private_id = renamed_root_key;
  perform set_config('kms_kit.renaming', '', true);
exception
  when deadlock_detected or lock_not_available or query_canceled or insufficient_resources then
    raise exception using errcode = sqlstate, message = sqlerrm, hint = 'SQLSTATE ' || sqlstate;
end;
$$;
comment on function %1$I.kms_rename_scope(text, text) is
  'gives the scope of a root key another id; whoever calls it has encrypted its keys for that id'
$text$, current_schema());
end;
$do$;

create or replace trigger kms_immutable_columns before update on kms_root_key
  for each row execute function kms_immutable_columns('private_id', 'create_time');

-- Lets through what kms_rename_scope does, which says the transaction and the
-- root key, and nothing after it.
create trigger kms_immutable_scope_id before update on kms_root_key
  for each row
  when (old.scope_id::text is distinct from new.scope_id::text
    and current_setting('kms_kit.renaming', true)
      is distinct from pg_current_xact_id()::text || ':' || old.private_id::text)
  execute function kms_immutable_columns('scope_id');

-- Caches of both ids are told.
create trigger kms_mark_on_update after update on kms_root_key
  referencing old table as changed for each statement execute function kms_mark_kms_root_key();
create trigger kms_mark_on_update_to after update on kms_root_key
  referencing new table as changed for each statement execute function kms_mark_kms_root_key();
