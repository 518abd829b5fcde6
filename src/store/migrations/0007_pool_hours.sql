-- Up Migration

-- What capacity cost in an hour, and what the calls of the hour took of it.
create table pool_hour (
  hour timestamptz not null,
  price_id int4 not null references price (id),
  currency int2 not null,
  cost_nano numeric(38, 0) not null check (cost_nano >= 0),
  shared_nano numeric(38, 0) not null check (shared_nano >= 0),
  tokens int8 not null,
  events int8 not null,
  requests_seen int8 not null,
  is_stale bool not null,
  rated_at timestamptz not null,
  primary key (hour, price_id)
);
comment on table pool_hour is 'Hours (UTC) of pools whose cost was shared by the calls of the hour: usage_event.rated_nano of the rows with this price_id adds up to shared_nano.';
comment on column pool_hour.cost_nano is 'Of that part of the hour in which the price holds, in billionths of currency (packed).';
comment on column pool_hour.shared_nano is 'cost_nano, once the hour is shared whole; 0 where no tokens were used.';
comment on column pool_hour.requests_seen is 'Requests of the price''s org (or of all) in the hour when it was shared; another number now says that something came late.';
comment on column pool_hour.is_stale is 'Rows have been left for another turn, or a re-rating has changed some: the hour is shared anew.';

grant select on pool_hour to tallystick_system;
