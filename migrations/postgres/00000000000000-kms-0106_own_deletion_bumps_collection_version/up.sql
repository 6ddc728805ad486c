-- Ours. After a root key is gone, by whatever statement or cascade, the
-- collection version has moved in the same transaction, so that caches
-- elsewhere drop the keys.
--
-- Before the statement, not after: then a deletion locks in the same order as
-- every other change (collection version first, root keys after it), and the
-- two can't deadlock. It fires when no row goes, too: one bump too many is
-- harmless.
--
-- Security definer: who may delete a scope of the application's need not have
-- rights on the counter.

create function kms_bump_collection_version() returns trigger
language plpgsql
security definer
as $$
begin
  update kms_collection_version set version = version + 1;
  return null;
end;
$$;
comment on function kms_bump_collection_version() is
  'before delete or truncate of root keys: caches learn that keys are gone';
revoke execute on function kms_bump_collection_version() from public;

do $$
begin
  execute format(
    'alter function %I.kms_bump_collection_version() set search_path to %1$I, pg_temp', current_schema());
end;
$$;

create trigger kms_bump_collection_version_on_delete before delete on kms_root_key
  for each statement execute function kms_bump_collection_version();
create trigger kms_bump_collection_version_on_truncate before truncate on kms_root_key
  for each statement execute function kms_bump_collection_version();
