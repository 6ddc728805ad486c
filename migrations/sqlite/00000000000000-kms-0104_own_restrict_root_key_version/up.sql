-- Ours. In Go kms, deleting a root key version destroys the data key versions
-- under it, and the foreign key of a table that Go made can't be replaced
-- without rebuilding it. Here the deletion fails, in both kinds of tables, and
-- also where `foreign_keys` is off.
--
-- Lets go when the root key itself is gone: then a whole scope is being
-- deleted, and the cascade takes the data key versions as well.

create trigger kms_restrict_root_key_version
before delete on kms_root_key_version
for each row
when exists (select 1 from kms_root_key where private_id = old.root_key_id)
  and exists (select 1 from kms_data_key_version where root_key_version_id = old.private_id)
begin
  select raise(abort, 'root key version is in use: kms_data_key_version.root_key_version_id');
end;
