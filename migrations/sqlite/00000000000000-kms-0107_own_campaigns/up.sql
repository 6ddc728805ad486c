-- Ours. Work over many scopes that can be stopped and taken up again: the
-- cursor (the last scope that is done, null before the first) moves in the
-- transaction of each batch.

create table kms_campaign (
  id text not null primary key
    constraint kms_campaign_id_not_blank
    check (trim(id, ' ' || char(9, 10, 11, 12, 13)) <> ''),
  kind text not null,
  parameters text not null,
  cursor text,
  done_count bigint not null default 0
    constraint kms_campaign_done_count_not_negative check (done_count >= 0),
  create_time timestamp not null default current_timestamp,
  update_time timestamp not null default current_timestamp,
  finish_time timestamp
);

create trigger kms_immutable_columns_kms_campaign
before update on kms_campaign
for each row
begin
  select case
    when new.id is not old.id then raise(abort, 'immutable column: kms_campaign.id')
    when new.kind is not old.kind then raise(abort, 'immutable column: kms_campaign.kind')
    when new.parameters is not old.parameters
      then raise(abort, 'immutable column: kms_campaign.parameters')
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_campaign.create_time')
  end;
end;

create trigger kms_default_create_time_column_kms_campaign
after insert on kms_campaign
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_campaign');
  update kms_campaign set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;

create trigger update_time_column_kms_campaign
after update on kms_campaign
for each row
when new.update_time is not strftime('%Y-%m-%d %H:%M:%f', 'now')
begin
  update kms_campaign
  set update_time = strftime('%Y-%m-%d %H:%M:%f', 'now')
  where rowid = new.rowid;
end;

create table kms_campaign_failure (
  campaign_id text not null references kms_campaign (id) on delete cascade,
  scope_id text not null,
  kind text not null,
  message text not null,
  create_time timestamp not null default current_timestamp,
  primary key (campaign_id, scope_id)
);

create trigger kms_immutable_columns_kms_campaign_failure
before update on kms_campaign_failure
for each row
begin
  select case
    when new.campaign_id is not old.campaign_id
      then raise(abort, 'immutable column: kms_campaign_failure.campaign_id')
    when new.scope_id is not old.scope_id
      then raise(abort, 'immutable column: kms_campaign_failure.scope_id')
    when new.create_time is not old.create_time
      and not exists (select 1 from kms_create_time_correction)
      then raise(abort, 'immutable column: kms_campaign_failure.create_time')
  end;
end;

create trigger kms_default_create_time_column_kms_campaign_failure
after insert on kms_campaign_failure
for each row
when new.create_time is not current_timestamp
begin
  insert into kms_create_time_correction (table_name) values ('kms_campaign_failure');
  update kms_campaign_failure set create_time = current_timestamp where rowid = new.rowid;
  delete from kms_create_time_correction;
end;
