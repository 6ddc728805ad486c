-- Ours. Who works on a campaign, and how much of it there is. One process at a
-- time holds a campaign, until its lease ends by the database's clock.

alter table kms_campaign
  add column total_count bigint not null default 0
    constraint kms_campaign_total_count_not_negative check (total_count >= 0),
  add column unchanged_count bigint not null default 0
    constraint kms_campaign_unchanged_count_not_negative check (unchanged_count >= 0),
  add column holder text,
  add column lease_end timestamp with time zone;
comment on column kms_campaign.total_count is 'scopes there were at the start';
comment on column kms_campaign.unchanged_count is 'scopes that needed no change';
comment on column kms_campaign.holder is 'random id of the run that works on it; null if it was released';
