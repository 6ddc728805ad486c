-- Ours. After a root key is gone, by whatever statement or cascade, the
-- collection version has moved in the same transaction, so that caches
-- elsewhere drop the keys. (`delete from kms_root_key` without a condition
-- visits each row as well: SQLite takes its short cut only on tables without
-- triggers.)

create trigger kms_bump_collection_version
after delete on kms_root_key
for each row
begin
  update kms_collection_version set version = version + 1;
end;
