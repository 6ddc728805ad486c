alter table kms_campaign
  drop column lease_end,
  drop column holder,
  drop column unchanged_count,
  drop column total_count;
