-- Dump of a migrated database, to read and to compare. Changed by migrations only; written by "node bin/tallystick.mjs dev schema".

--
-- PostgreSQL database dump
--

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: append_audit(integer, text); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.append_audit(p_org integer, p_entry text, OUT seq bigint, OUT hash bytea) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_role text := current_setting('role');
  v_org text := current_setting('app.org_id', true);
  v_entry jsonb := p_entry::jsonb;
  v_before record;
begin
  if v_role like 'tallystick\_%'
     and v_org is distinct from p_org::text
     and v_org is distinct from '*'
     and not (v_role = 'tallystick_system' and p_org = 0) then
    raise exception 'the audit chain of another org' using errcode = 'insufficient_privilege';
  end if;
  perform pg_advisory_xact_lock(1635083369, p_org);
  select l.seq, l.hash into v_before
    from public.audit_log l
   where l.org_id = p_org
   order by l.seq desc
   limit 1;
  seq := coalesce(v_before.seq, 0) + 1;
  hash := sha256(coalesce(v_before.hash, decode(repeat('00', 32), 'hex')) || int8send(seq) || convert_to(p_entry, 'UTF8'));
  insert into public.audit_log (org_id, seq, at, actor, action, entry, hash)
  values (p_org, seq, (v_entry ->> 'at')::timestamptz, v_entry ->> 'actor', v_entry ->> 'action', p_entry, hash);
end
$$;

--
-- Name: refuse_change(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end
$$;

--
-- Name: exact_sum(bigint); Type: AGGREGATE; Schema: public; Owner: -
--

CREATE AGGREGATE public.exact_sum(bigint) (
    SFUNC = int8pl,
    STYPE = bigint,
    COMBINEFUNC = int8pl,
    PARALLEL = safe
);

--
-- Name: AGGREGATE exact_sum(bigint); Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON AGGREGATE public.exact_sum(bigint) IS 'Sum of int8 as int8; fails with "bigint out of range" instead of growing beyond it. Null of no rows.';

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: api_key; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.api_key (
    id text NOT NULL,
    org_id integer DEFAULT 0 NOT NULL,
    name text NOT NULL,
    roles text[] NOT NULL,
    scopes text[],
    writes_for text[],
    environment text NOT NULL,
    secret_hash bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    last_used_at timestamp with time zone,
    replaces text,
    CONSTRAINT api_key_roles_check CHECK ((cardinality(roles) > 0)),
    CONSTRAINT api_key_secret_hash_check CHECK ((octet_length(secret_hash) = 32))
);

ALTER TABLE ONLY public.api_key FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE api_key; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.api_key IS 'Keys of programs and people; org 0: of the operator''s staff. The secret itself is nowhere.';

--
-- Name: COLUMN api_key.scopes; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.api_key.scopes IS 'Null: all that the roles allow.';

--
-- Name: COLUMN api_key.writes_for; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.api_key.writes_for IS 'External ids of the orgs it may write events for. Null: its own org only; {*}: any.';

--
-- Name: COLUMN api_key.replaces; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.api_key.replaces IS 'The key this one was made from when it was rotated.';

--
-- Name: audit_anchor; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.audit_anchor (
    org_id integer NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    at timestamp with time zone NOT NULL,
    CONSTRAINT audit_anchor_hash_check CHECK ((octet_length(hash) = 32))
);

ALTER TABLE ONLY public.audit_anchor FORCE ROW LEVEL SECURITY;

--
-- Name: audit_log; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.audit_log (
    org_id integer NOT NULL,
    seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    entry text NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT audit_log_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT audit_log_seq_check CHECK ((seq > 0))
);

ALTER TABLE ONLY public.audit_log FORCE ROW LEVEL SECURITY;

--
-- Name: COLUMN audit_log.entry; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.audit_log.entry IS 'The whole entry as JSON, byte for byte as it was hashed; at, actor and action repeat parts of it.';

--
-- Name: COLUMN audit_log.hash; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.audit_log.hash IS 'SHA-256 of: hash of the row before (32 zero bytes for the first), seq as 8 bytes big-endian, entry in UTF-8.';

--
-- Name: browser_session; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.browser_session (
    id text NOT NULL,
    token_hash bytea NOT NULL,
    org_id integer DEFAULT 0 NOT NULL,
    principal_id text NOT NULL,
    principal jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    CONSTRAINT browser_session_token_hash_check CHECK ((octet_length(token_hash) = 32))
);

ALTER TABLE ONLY public.browser_session FORCE ROW LEVEL SECURITY;

--
-- Name: COLUMN browser_session.principal_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.browser_session.principal_id IS 'The key or subject that signed in; its sessions end with it.';

--
-- Name: budget; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.budget (
    org_id integer NOT NULL,
    budget_id text NOT NULL,
    name text,
    model text,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT budget_budget_id_check CHECK ((budget_id <> ''::text)),
    CONSTRAINT budget_model_check CHECK ((model <> ''::text))
);

ALTER TABLE ONLY public.budget FORCE ROW LEVEL SECURITY;

--
-- Name: COLUMN budget.model; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.budget.model IS 'A model id, for good; null: all of the org''s spend.';

--
-- Name: budget_crossing; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.budget_crossing (
    org_id integer NOT NULL,
    budget_id text NOT NULL,
    month date NOT NULL,
    percent integer NOT NULL,
    crossed_at timestamp with time zone NOT NULL,
    spent_nano numeric(38,0) NOT NULL,
    amount_nano numeric(38,0) NOT NULL,
    CONSTRAINT budget_crossing_month_check CHECK ((EXTRACT(day FROM month) = (1)::numeric))
);

ALTER TABLE ONLY public.budget_crossing FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE budget_crossing; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.budget_crossing IS 'Thresholds that spend has reached: each once per budget and month, whatever becomes of the amount later.';

--
-- Name: COLUMN budget_crossing.crossed_at; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.budget_crossing.crossed_at IS 'When the service found it so; late usage makes that later than the month.';

--
-- Name: budget_terms; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.budget_terms (
    org_id integer NOT NULL,
    budget_id text NOT NULL,
    month date NOT NULL,
    amount_nano numeric(38,0) NOT NULL,
    thresholds integer[] NOT NULL,
    CONSTRAINT budget_terms_amount_nano_check CHECK ((amount_nano > (0)::numeric)),
    CONSTRAINT budget_terms_month_check CHECK ((EXTRACT(day FROM month) = (1)::numeric)),
    CONSTRAINT budget_terms_thresholds_check CHECK ((cardinality(thresholds) > 0))
);

ALTER TABLE ONLY public.budget_terms FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE budget_terms; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.budget_terms IS 'What a budget says from a month on, until the next row of it.';

--
-- Name: COLUMN budget_terms.amount_nano; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.budget_terms.amount_nano IS 'Per month, in billionths of the currency''s unit.';

--
-- Name: COLUMN budget_terms.thresholds; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.budget_terms.thresholds IS 'Per cent of the amount, ascending.';

--
-- Name: dictionary; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.dictionary (
    id integer NOT NULL,
    org_id integer NOT NULL,
    kind smallint NOT NULL,
    value text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY public.dictionary FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE dictionary; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.dictionary IS 'Text to id, per org and kind (1 model, 2 client, 3 actor, 4 error code, 5 tag: <key>=<value>, or <key>(other) for all values beyond the cap). Id 0 means none given, -1 means other (cardinality cap).';

--
-- Name: dictionary_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.dictionary ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.dictionary_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: event_key_partition; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.event_key_partition (
    no integer NOT NULL,
    opened_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    closed_at timestamp with time zone,
    keys bigint
);

--
-- Name: fold_state; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.fold_state (
    consumer text NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    owner text,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    complete_through timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

--
-- Name: freshness; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.freshness (
    org_id integer NOT NULL,
    model_id integer NOT NULL,
    last_occurred_at timestamp with time zone NOT NULL,
    last_ingested_at timestamp with time zone NOT NULL,
    last_aggregated_at timestamp with time zone NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.freshness FORCE ROW LEVEL SECURITY;

--
-- Name: ingestion_batches; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.ingestion_batches (
    lane_id integer NOT NULL,
    batch_no bigint NOT NULL,
    batch_id bigint NOT NULL,
    epoch bigint NOT NULL,
    committed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    received_at timestamp with time zone NOT NULL,
    received integer NOT NULL,
    accepted integer NOT NULL,
    duplicate integer NOT NULL,
    conflict integer NOT NULL,
    rejected integer NOT NULL,
    min_occurred_at timestamp with time zone,
    max_occurred_at timestamp with time zone,
    position_from text,
    position_to text,
    duration_ms integer NOT NULL,
    correlation_id text NOT NULL,
    ledger bytea NOT NULL,
    CONSTRAINT ingestion_batches_check CHECK ((received = (((accepted + duplicate) + conflict) + rejected)))
);

--
-- Name: COLUMN ingestion_batches.ledger; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.ingestion_batches.ledger IS 'Per (source, partition, org, hour) counts and id digests of this batch, packed; the rollup worker adds them into ledger.';

--
-- Name: installation; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.installation (
    only_row boolean DEFAULT true NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    dedup_floor timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT installation_only_row_check CHECK (only_row)
);

--
-- Name: COLUMN installation.dedup_floor; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.installation.dedup_floor IS 'Keys of events ingested before this instant may have been dropped: identity is then looked up in raw.';

--
-- Name: lane; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.lane (
    id integer NOT NULL,
    transport text NOT NULL,
    partition text NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    batch_no bigint DEFAULT 0 NOT NULL,
    "position" text,
    head_offset bigint,
    head_seen_at timestamp with time zone,
    owner text,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
);

--
-- Name: COLUMN lane."position"; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.lane."position" IS 'Where a stream is read on: <offset>:<digest of that message>, or <offset>+<items done>:<digest> within one; a digest of zeros is not known. Null: at its beginning, or the transport has no positions.';

--
-- Name: COLUMN lane.head_offset; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.lane.head_offset IS 'Last offset the stream held when its reader looked, at head_seen_at.';

--
-- Name: lane_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.lane ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.lane_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: lane_member; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.lane_member (
    transport text NOT NULL,
    member text NOT NULL,
    lease_until timestamp with time zone NOT NULL
);

--
-- Name: ledger; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.ledger (
    org_id integer NOT NULL,
    source_id smallint NOT NULL,
    partition integer NOT NULL,
    hour timestamp with time zone NOT NULL,
    received bigint NOT NULL,
    accepted bigint NOT NULL,
    duplicate bigint NOT NULL,
    conflict bigint NOT NULL,
    rejected bigint NOT NULL,
    received_digest numeric(20,0) NOT NULL,
    accepted_digest numeric(20,0) NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT ledger_check CHECK ((received = (((accepted + duplicate) + conflict) + rejected)))
);

ALTER TABLE ONLY public.ledger FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE ledger; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.ledger IS 'Delivery control totals per org, source, partition and hour of occurrence (hour of arrival when a rejected event has no usable time).';

--
-- Name: model; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.model (
    model_id text NOT NULL,
    display_name text,
    billing_tier text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

--
-- Name: TABLE model; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.model IS 'What people call a model, and what it is billed as. The same for all orgs.';

--
-- Name: org; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.org (
    id integer NOT NULL,
    external_id text NOT NULL,
    name text,
    time_zone text DEFAULT 'UTC'::text NOT NULL,
    currency text DEFAULT 'USD'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    billing_contact text,
    entitlements jsonb DEFAULT '{}'::jsonb NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    status_changed_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    cost_basis text DEFAULT 'event_or_computed'::text NOT NULL,
    tag_keys text[] DEFAULT '{}'::text[] NOT NULL,
    CONSTRAINT org_cost_basis_check CHECK ((cost_basis = ANY (ARRAY['event_or_computed'::text, 'event'::text, 'computed'::text]))),
    CONSTRAINT org_cost_basis_of_all CHECK (((id > 0) OR (cost_basis = 'event_or_computed'::text))),
    CONSTRAINT org_entitlements_check CHECK ((jsonb_typeof(entitlements) = 'object'::text)),
    CONSTRAINT org_status_check CHECK ((status = ANY (ARRAY['active'::text, 'suspended'::text, 'deleted'::text]))),
    CONSTRAINT org_tag_keys_check CHECK (((cardinality(tag_keys) <= 5) AND (array_position(tag_keys, NULL::text) IS NULL)))
);

ALTER TABLE ONLY public.org FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE org; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.org IS 'One row per tenant. Id 0 stands for all orgs together: system totals are rolled up under it.';

--
-- Name: COLUMN org.status; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.org.status IS 'active; suspended: nobody of it gets in and its events go into quarantine; deleted: it is unknown to all.';

--
-- Name: COLUMN org.cost_basis; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.org.cost_basis IS 'Which cost the org''s reports show: the event''s own, the price book''s, or the event''s where it has one and else the price book''s.';

--
-- Name: COLUMN org.tag_keys; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.org.tag_keys IS 'Keys of its events'' metadata whose values usage is broken down by, from the moment they are declared.';

--
-- Name: org_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.org ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.org_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: pool_hour; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.pool_hour (
    hour timestamp with time zone NOT NULL,
    price_id integer NOT NULL,
    currency smallint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    shared_nano numeric(38,0) NOT NULL,
    tokens bigint NOT NULL,
    events bigint NOT NULL,
    requests_seen bigint NOT NULL,
    is_stale boolean NOT NULL,
    rated_at timestamp with time zone NOT NULL,
    CONSTRAINT pool_hour_cost_nano_check CHECK ((cost_nano >= (0)::numeric)),
    CONSTRAINT pool_hour_shared_nano_check CHECK ((shared_nano >= (0)::numeric))
);

--
-- Name: TABLE pool_hour; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.pool_hour IS 'Hours (UTC) of pools whose cost was shared by the calls of the hour: usage_event.rated_nano of the rows with this price_id adds up to shared_nano.';

--
-- Name: COLUMN pool_hour.cost_nano; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.pool_hour.cost_nano IS 'Of that part of the hour in which the price holds, in billionths of currency (packed).';

--
-- Name: COLUMN pool_hour.shared_nano; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.pool_hour.shared_nano IS 'cost_nano, once the hour is shared whole; 0 where no tokens were used.';

--
-- Name: COLUMN pool_hour.requests_seen; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.pool_hour.requests_seen IS 'Requests of the price''s org (or of all) in the hour when it was shared; another number now says that something came late.';

--
-- Name: COLUMN pool_hour.is_stale; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.pool_hour.is_stale IS 'Rows have been left for another turn, or a re-rating has changed some: the hour is shared anew.';

--
-- Name: price; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.price (
    id integer NOT NULL,
    org_id integer DEFAULT 0 NOT NULL,
    layer text DEFAULT 'own'::text NOT NULL,
    kind text DEFAULT 'model'::text NOT NULL,
    subject text NOT NULL,
    valid_from timestamp with time zone,
    valid_to timestamp with time zone,
    terms jsonb NOT NULL,
    source text NOT NULL,
    version integer NOT NULL,
    retired_version integer,
    CONSTRAINT price_check CHECK ((valid_from < valid_to)),
    CONSTRAINT price_check1 CHECK ((retired_version > version)),
    CONSTRAINT price_kind_check CHECK ((kind = ANY (ARRAY['model'::text, 'pool'::text]))),
    CONSTRAINT price_layer_check CHECK ((layer = ANY (ARRAY['own'::text, 'catalogue'::text]))),
    CONSTRAINT price_subject_check CHECK ((subject <> ''::text)),
    CONSTRAINT price_terms_check CHECK ((jsonb_typeof(terms) = 'object'::text))
);

ALTER TABLE ONLY public.price FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE price; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.price IS 'Entries of the price book; in force are those that were not retired. Org 0: for all orgs.';

--
-- Name: COLUMN price.layer; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.price.layer IS 'own: from the operator''s files; catalogue: from a published list, which any own price comes before.';

--
-- Name: COLUMN price.kind; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.price.kind IS 'model: what its calls cost; pool: what capacity costs that models share.';

--
-- Name: COLUMN price.subject; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.price.subject IS 'A model id, or with * at the end all ids that begin so; the name of a pool.';

--
-- Name: COLUMN price.valid_from; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.price.valid_from IS 'Half-open with valid_to, by occurred_at; null: since ever, or for ever.';

--
-- Name: COLUMN price.terms; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.price.terms IS 'Amounts as decimal text: never a JSON number.';

--
-- Name: price_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.price ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.price_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: price_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.price_version (
    version integer NOT NULL,
    layer text NOT NULL,
    applied_at timestamp with time zone NOT NULL,
    applied_by text NOT NULL,
    added integer NOT NULL,
    retired integer NOT NULL,
    CONSTRAINT price_version_added_check CHECK ((added >= 0)),
    CONSTRAINT price_version_layer_check CHECK ((layer = ANY (ARRAY['own'::text, 'catalogue'::text]))),
    CONSTRAINT price_version_retired_check CHECK ((retired >= 0)),
    CONSTRAINT price_version_version_check CHECK ((version >= 0))
);

--
-- Name: TABLE price_version; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.price_version IS 'One row per apply that changed the price book. Version 0 is the book before the first.';

--
-- Name: purged; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.purged (
    what text NOT NULL,
    org_id integer NOT NULL,
    day date NOT NULL,
    purged_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT purged_what_check CHECK ((what = ANY (ARRAY['raw'::text, '15m'::text, 'all'::text])))
);

ALTER TABLE ONLY public.purged FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE purged; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.purged IS 'UTC days whose raw events (org 0: all orgs), 15-minute rollup rows (per org) or figures altogether (all; org 0: all orgs) retention has deleted.';

--
-- Name: quarantine; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.quarantine (
    id bigint NOT NULL,
    org_id integer NOT NULL,
    source_id smallint NOT NULL,
    batch_id bigint NOT NULL,
    received_at timestamp with time zone NOT NULL,
    "position" text,
    code text NOT NULL,
    pointer text NOT NULL,
    detail text NOT NULL,
    event_id text,
    occurred_at timestamp with time zone,
    bytes bytea NOT NULL,
    truncated boolean DEFAULT false NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    resolved_at timestamp with time zone,
    resolution text,
    CONSTRAINT quarantine_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'replayed'::text, 'dropped'::text])))
);

ALTER TABLE ONLY public.quarantine FORCE ROW LEVEL SECURITY;

--
-- Name: COLUMN quarantine.org_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.quarantine.org_id IS '0 when the org of the bytes could not be told.';

--
-- Name: quarantine_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.quarantine ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.quarantine_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: reconciliation; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.reconciliation (
    org_id integer NOT NULL,
    hour timestamp with time zone NOT NULL,
    state text NOT NULL,
    checked_at timestamp with time zone NOT NULL,
    differences json DEFAULT '[]'::json NOT NULL,
    CONSTRAINT reconciliation_state_check CHECK ((state = ANY (ARRAY['match'::text, 'differs'::text])))
);

ALTER TABLE ONLY public.reconciliation FORCE ROW LEVEL SECURITY;

--
-- Name: rerating; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rerating (
    id integer NOT NULL,
    state text DEFAULT 'ordered'::text NOT NULL,
    price_version integer NOT NULL,
    org_id integer DEFAULT 0 NOT NULL,
    model text,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    reason text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    created_by_name text NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT rerating_check CHECK ((starts_at < ends_at)),
    CONSTRAINT rerating_model_check CHECK ((model <> ''::text)),
    CONSTRAINT rerating_state_check CHECK ((state = ANY (ARRAY['ordered'::text, 'previewing'::text, 'previewed'::text, 'applying'::text, 'applied'::text, 'undoing'::text, 'undone'::text, 'cancelled'::text])))
);

ALTER TABLE ONLY public.rerating FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE rerating; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.rerating IS 'Orders to rate events again by a version of the price book. Org 0: of all orgs; model null: of all models.';

--
-- Name: COLUMN rerating.finished_at; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rerating.finished_at IS 'When it came to the state it is in: previewed, applied, undone or cancelled.';

--
-- Name: rerating_day; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rerating_day (
    rerating_id integer NOT NULL,
    day date NOT NULL,
    done_in text,
    has_raw boolean,
    CONSTRAINT rerating_day_done_in_check CHECK ((done_in = ANY (ARRAY['previewing'::text, 'applying'::text, 'undoing'::text])))
);

--
-- Name: TABLE rerating_day; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.rerating_day IS 'The UTC days of an order: the steps in which it is worked off, each step and what it did in one transaction.';

--
-- Name: COLUMN rerating_day.done_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rerating_day.done_in IS 'The newest state of the order in which the day is done.';

--
-- Name: COLUMN rerating_day.has_raw; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rerating_day.has_raw IS 'Whether the day''s raw events were there when it was looked at; without them nothing of it is rated again.';

--
-- Name: rerating_failure; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rerating_failure (
    rerating_id integer NOT NULL,
    failed_in text NOT NULL,
    day date,
    failures integer NOT NULL,
    since timestamp with time zone NOT NULL,
    failed_at timestamp with time zone NOT NULL,
    retry_at timestamp with time zone NOT NULL,
    error text NOT NULL,
    CONSTRAINT rerating_failure_failed_in_check CHECK ((failed_in = ANY (ARRAY['ordered'::text, 'previewing'::text, 'applying'::text, 'undoing'::text]))),
    CONSTRAINT rerating_failure_failures_check CHECK ((failures > 0))
);

--
-- Name: TABLE rerating_failure; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.rerating_failure IS 'Orders whose work failed the last time, which the end of the day or the state that failed deletes. It concerns an order while that is in the state failed_in.';

--
-- Name: COLUMN rerating_failure.day; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rerating_failure.day IS 'The UTC day that failed; null: no day alone.';

--
-- Name: COLUMN rerating_failure.failures; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rerating_failure.failures IS 'How often in a row, the first at since, the last at failed_at; not tried again before retry_at.';

--
-- Name: COLUMN rerating_failure.error; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rerating_failure.error IS 'The last failure in words without data: SQLSTATE and message.';

--
-- Name: rerating_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.rerating ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.rerating_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: rerating_line; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rerating_line (
    rerating_id integer NOT NULL,
    org_id integer NOT NULL,
    model_id integer NOT NULL,
    day date NOT NULL,
    currency smallint NOT NULL,
    priced_before bigint DEFAULT 0 NOT NULL,
    priced_after bigint DEFAULT 0 NOT NULL,
    nano_before numeric(38,0) DEFAULT 0 NOT NULL,
    nano_after numeric(38,0) DEFAULT 0 NOT NULL,
    applied_before bigint DEFAULT 0 NOT NULL,
    applied_after bigint DEFAULT 0 NOT NULL,
    applied_nano_before numeric(38,0) DEFAULT 0 NOT NULL,
    applied_nano_after numeric(38,0) DEFAULT 0 NOT NULL
);

ALTER TABLE ONLY public.rerating_line FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE rerating_line; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.rerating_line IS 'What an order changes, by org, model, UTC day and currency of the computed cost: requests that have one and their cost, before and after; as previewed, and as applied.';

--
-- Name: rerating_rollup; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rerating_rollup (
    rerating_id integer NOT NULL,
    org_id integer NOT NULL,
    model_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    rating smallint NOT NULL,
    requests bigint NOT NULL,
    nano_before numeric(38,0) NOT NULL,
    nano_after numeric(38,0) NOT NULL
);

ALTER TABLE ONLY public.rerating_rollup FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE rerating_rollup; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.rerating_rollup IS 'What an order has changed of an org''s model rows without raw, in the finest buckets that were there; every other row has got the sum of it, and an undo takes exactly that back.';

--
-- Name: rerating_tally; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rerating_tally (
    rerating_id integer NOT NULL,
    day date NOT NULL,
    became text NOT NULL,
    row_count bigint NOT NULL,
    requests bigint NOT NULL,
    CONSTRAINT rerating_tally_became_check CHECK ((became = ANY (ARRAY['rated'::text, 'unpriced'::text, 'no_price'::text, 'other_model'::text, 'pool'::text, 'cut'::text, 'turn'::text, 'currency'::text, 'not_linear'::text, 'fraction'::text, 'not_counted'::text, 'class_unpriced'::text, 'too_large'::text])))
);

--
-- Name: TABLE rerating_tally; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.rerating_tally IS 'What became of an order''s rollup rows without raw: rated again, or left as they are and why; as last previewed or applied. Rows that would not change are not counted.';

--
-- Name: rollup_actor_15m; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_actor_15m (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_actor_15m FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_actor_day; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_actor_day (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_actor_day FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_actor_hour; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_actor_hour (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_actor_hour FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_client_15m; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_client_15m (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_client_15m FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_client_day; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_client_day (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_client_day FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_client_hour; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_client_hour (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_client_hour FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_error_15m; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_error_15m (
    org_id integer NOT NULL,
    model_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    error_code_id integer NOT NULL,
    requests bigint NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_error_15m FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE rollup_error_15m; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.rollup_error_15m IS 'Failed requests per error code; sparse, so hours have no rows of their own.';

--
-- Name: rollup_error_day; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_error_day (
    org_id integer NOT NULL,
    model_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    error_code_id integer NOT NULL,
    requests bigint NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_error_day FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE rollup_error_day; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.rollup_error_day IS 'As rollup_error_15m, by the UTC day: the sums of its rows.';

--
-- Name: rollup_model_15m; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_model_15m (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_model_15m FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_model_day; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_model_day (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_model_day FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_model_hour; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_model_hour (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_model_hour FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_org_15m; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_org_15m (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_org_15m FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE rollup_org_15m; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.rollup_org_15m IS 'Measures per org, member (0 for the org dimension), bucket start (UTC), outcome, currency and rating. Same shape for every dimension and grain.';

--
-- Name: COLUMN rollup_org_15m.rating; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rollup_org_15m.rating IS 'Currency of rated_nano (packed, as currency), negative where the events bring a cost of their own; 0: the price book prices none of them.';

--
-- Name: COLUMN rollup_org_15m.rated_nano; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rollup_org_15m.rated_nano IS 'Sum of the events'' rated_nano, in the currency of rating.';

--
-- Name: rollup_org_day; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_org_day (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_org_day FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_org_hour; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_org_hour (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_org_hour FORCE ROW LEVEL SECURITY;

--
-- Name: rollup_tag_15m; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_tag_15m (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_tag_15m FORCE ROW LEVEL SECURITY;

--
-- Name: TABLE rollup_tag_15m; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.rollup_tag_15m IS 'As rollup_org_15m, by tag: an event is counted once under each of its words, so rows add up to the org''s only key by key, together with the events that have no word of that key.';

--
-- Name: COLUMN rollup_tag_15m.rating; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rollup_tag_15m.rating IS 'Currency of rated_nano (packed, as currency), negative where the events bring a cost of their own; 0: the price book prices none of them.';

--
-- Name: COLUMN rollup_tag_15m.rated_nano; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rollup_tag_15m.rated_nano IS 'Sum of the events'' rated_nano, in the currency of rating.';

--
-- Name: rollup_tag_day; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_tag_day (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_tag_day FORCE ROW LEVEL SECURITY;

--
-- Name: COLUMN rollup_tag_day.rating; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rollup_tag_day.rating IS 'Currency of rated_nano (packed, as currency), negative where the events bring a cost of their own; 0: the price book prices none of them.';

--
-- Name: COLUMN rollup_tag_day.rated_nano; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rollup_tag_day.rated_nano IS 'Sum of the events'' rated_nano, in the currency of rating.';

--
-- Name: rollup_tag_hour; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.rollup_tag_hour (
    org_id integer NOT NULL,
    member_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    requests bigint NOT NULL,
    priced_requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    priced_tokens bigint NOT NULL,
    cost_nano numeric(38,0) NOT NULL,
    latency_count bigint NOT NULL,
    latency_sum_ms bigint NOT NULL,
    latency_sketch bytea NOT NULL,
    rating smallint DEFAULT 0 NOT NULL,
    rated_nano numeric(38,0) DEFAULT 0 NOT NULL
)
WITH (fillfactor='45');

ALTER TABLE ONLY public.rollup_tag_hour FORCE ROW LEVEL SECURITY;

--
-- Name: COLUMN rollup_tag_hour.rating; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rollup_tag_hour.rating IS 'Currency of rated_nano (packed, as currency), negative where the events bring a cost of their own; 0: the price book prices none of them.';

--
-- Name: COLUMN rollup_tag_hour.rated_nano; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.rollup_tag_hour.rated_nano IS 'Sum of the events'' rated_nano, in the currency of rating.';

--
-- Name: schema_migration; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.schema_migration (
    id integer NOT NULL,
    name character varying(255) NOT NULL,
    run_on timestamp without time zone NOT NULL
);

--
-- Name: schema_migration_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.schema_migration_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

--
-- Name: schema_migration_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.schema_migration_id_seq OWNED BY public.schema_migration.id;

--
-- Name: sign_in_attempt; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.sign_in_attempt (
    state_hash bytea NOT NULL,
    nonce text NOT NULL,
    verifier text NOT NULL,
    return_path text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT sign_in_attempt_state_hash_check CHECK ((octet_length(state_hash) = 32))
);

--
-- Name: TABLE sign_in_attempt; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.sign_in_attempt IS 'Sign-ins that are at the identity provider: what its answer must match. Taken away when it comes.';

--
-- Name: sign_in_link; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.sign_in_link (
    token_hash bytea NOT NULL,
    principal jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    CONSTRAINT sign_in_link_token_hash_check CHECK ((octet_length(token_hash) = 32))
);

--
-- Name: TABLE sign_in_link; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.sign_in_link IS 'Links that sign in once.';

--
-- Name: source; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.source (
    id smallint NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

--
-- Name: TABLE source; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.source IS 'Where events came from: http, import/<digest>, replay, and broker sources.';

--
-- Name: source_freshness; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.source_freshness (
    source_id smallint NOT NULL,
    last_occurred_at timestamp with time zone NOT NULL,
    last_ingested_at timestamp with time zone NOT NULL,
    last_aggregated_at timestamp with time zone NOT NULL
);

--
-- Name: source_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.source ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.source_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: stream_incident; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.stream_incident (
    id bigint NOT NULL,
    lane_id integer NOT NULL,
    batch_no bigint NOT NULL,
    kind text NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint,
    found_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    detail text NOT NULL,
    CONSTRAINT stream_incident_check CHECK (((kind = 'recreated'::text) OR (to_offset >= from_offset))),
    CONSTRAINT stream_incident_kind_check CHECK ((kind = ANY (ARRAY['gap'::text, 'recreated'::text, 'unreadable'::text])))
);

--
-- Name: TABLE stream_incident; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.stream_incident IS 'gap: offsets from_offset to to_offset, both included, were gone before they were read. recreated: the stream was deleted and made anew; from_offset would have been the next; it is read from its first message, and what it repeats is a duplicate. unreadable: the broker cannot hand over what is at these offsets; they are in quarantine as one item.';

--
-- Name: stream_incident_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.stream_incident ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.stream_incident_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: token_revocation; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.token_revocation (
    kind text NOT NULL,
    issuer text NOT NULL,
    value text NOT NULL,
    until timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT token_revocation_kind_check CHECK ((kind = ANY (ARRAY['jti'::text, 'sub'::text])))
);

--
-- Name: TABLE token_revocation; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.token_revocation IS 'Tokens (jti), or all of a subject''s issued up to created_at (sub), that are refused although they have not expired; until: none of them is valid any longer by itself.';

--
-- Name: usage_event; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.usage_event (
    occurred_at timestamp with time zone NOT NULL,
    batch_id bigint NOT NULL,
    event_key uuid NOT NULL,
    content_hash bigint NOT NULL,
    org_id integer NOT NULL,
    model_id integer NOT NULL,
    client_id integer NOT NULL,
    actor_id integer NOT NULL,
    error_code_id integer NOT NULL,
    requests integer NOT NULL,
    input_tokens integer NOT NULL,
    cache_read_tokens integer NOT NULL,
    cache_write_5m_tokens integer NOT NULL,
    cache_write_1h_tokens integer NOT NULL,
    output_tokens integer NOT NULL,
    reasoning_tokens integer NOT NULL,
    source_id smallint NOT NULL,
    outcome smallint NOT NULL,
    currency smallint NOT NULL,
    flags smallint NOT NULL,
    latency_ms integer,
    ttft_ms integer,
    cost_nano bigint,
    event_id text,
    metadata json,
    extra json,
    rated_nano bigint,
    price_id integer,
    former_price_id integer,
    rerating_id integer,
    rated_currency smallint,
    tag_ids integer[]
)
PARTITION BY RANGE (occurred_at);

ALTER TABLE ONLY public.usage_event FORCE ROW LEVEL SECURITY;

--
-- Name: COLUMN usage_event.event_key; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.usage_event.event_key IS 'The event id itself when it is a canonical lower-case UUID (event_id is then null), else the first 16 bytes of SHA-256(event_id).';

--
-- Name: COLUMN usage_event.outcome; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.usage_event.outcome IS '0 success, 1 cancelled, errors by class: 2 client, 3 capacity, 4 upstream, 5 policy, 6 internal.';

--
-- Name: COLUMN usage_event.currency; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.usage_event.currency IS 'ISO 4217 letters packed: (a*26+b)*26+c with A=0.';

--
-- Name: COLUMN usage_event.flags; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.usage_event.flags IS 'Bits: 1 wire total disagreed, 2 cost rounded to nano-units; bits 2-3 usage source (0 reported, 1 estimated, 2 absent).';

--
-- Name: COLUMN usage_event.rated_nano; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.usage_event.rated_nano IS 'Cost by the price book, in billionths of rated_currency; null: unpriced, which is not 0.';

--
-- Name: COLUMN usage_event.price_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.usage_event.price_id IS 'Entry of the price book that holds for the event at occurred_at, even where it cannot price all that was used; null: there is none.';

--
-- Name: COLUMN usage_event.former_price_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.usage_event.former_price_id IS 'The entry before the re-rating in rerating_id; what that made of the event can be made again.';

--
-- Name: COLUMN usage_event.rerating_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.usage_event.rerating_id IS 'The newest re-rating that changed the event''s rating.';

--
-- Name: COLUMN usage_event.rated_currency; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.usage_event.rated_currency IS 'As currency, of rated_nano.';

--
-- Name: COLUMN usage_event.tag_ids; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.usage_event.tag_ids IS 'Words (dictionary, kind 5) of the keys that the org had declared when the event came, one a key; a key that the event has no value of has none. Null: no word at all.';

--
-- Name: watermark; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.watermark (
    consumer text NOT NULL,
    lane_id integer NOT NULL,
    batch_no bigint NOT NULL
);

--
-- Name: schema_migration id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.schema_migration ALTER COLUMN id SET DEFAULT nextval('public.schema_migration_id_seq'::regclass);

--
-- Name: api_key api_key_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (id);

--
-- Name: audit_anchor audit_anchor_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.audit_anchor
    ADD CONSTRAINT audit_anchor_pkey PRIMARY KEY (org_id, seq);

--
-- Name: audit_log audit_log_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (org_id, seq);

--
-- Name: browser_session browser_session_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.browser_session
    ADD CONSTRAINT browser_session_pkey PRIMARY KEY (id);

--
-- Name: browser_session browser_session_token_hash_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.browser_session
    ADD CONSTRAINT browser_session_token_hash_key UNIQUE (token_hash);

--
-- Name: budget_crossing budget_crossing_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.budget_crossing
    ADD CONSTRAINT budget_crossing_pkey PRIMARY KEY (org_id, budget_id, month, percent);

--
-- Name: budget budget_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.budget
    ADD CONSTRAINT budget_pkey PRIMARY KEY (org_id, budget_id);

--
-- Name: budget_terms budget_terms_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.budget_terms
    ADD CONSTRAINT budget_terms_pkey PRIMARY KEY (org_id, budget_id, month);

--
-- Name: dictionary dictionary_org_id_kind_value_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.dictionary
    ADD CONSTRAINT dictionary_org_id_kind_value_key UNIQUE (org_id, kind, value);

--
-- Name: dictionary dictionary_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.dictionary
    ADD CONSTRAINT dictionary_pkey PRIMARY KEY (id);

--
-- Name: event_key_partition event_key_partition_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.event_key_partition
    ADD CONSTRAINT event_key_partition_pkey PRIMARY KEY (no);

--
-- Name: fold_state fold_state_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.fold_state
    ADD CONSTRAINT fold_state_pkey PRIMARY KEY (consumer);

--
-- Name: freshness freshness_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.freshness
    ADD CONSTRAINT freshness_pkey PRIMARY KEY (org_id, model_id);

--
-- Name: ingestion_batches ingestion_batches_batch_id_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.ingestion_batches
    ADD CONSTRAINT ingestion_batches_batch_id_key UNIQUE (batch_id);

--
-- Name: ingestion_batches ingestion_batches_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.ingestion_batches
    ADD CONSTRAINT ingestion_batches_pkey PRIMARY KEY (lane_id, batch_no);

--
-- Name: installation installation_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

--
-- Name: lane_member lane_member_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.lane_member
    ADD CONSTRAINT lane_member_pkey PRIMARY KEY (transport, member);

--
-- Name: lane lane_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.lane
    ADD CONSTRAINT lane_pkey PRIMARY KEY (id);

--
-- Name: lane lane_transport_partition_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.lane
    ADD CONSTRAINT lane_transport_partition_key UNIQUE (transport, partition);

--
-- Name: ledger ledger_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (org_id, hour, source_id, partition);

--
-- Name: model model_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.model
    ADD CONSTRAINT model_pkey PRIMARY KEY (model_id);

--
-- Name: org org_external_id_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.org
    ADD CONSTRAINT org_external_id_key UNIQUE (external_id);

--
-- Name: org org_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.org
    ADD CONSTRAINT org_pkey PRIMARY KEY (id);

--
-- Name: pool_hour pool_hour_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pool_hour
    ADD CONSTRAINT pool_hour_pkey PRIMARY KEY (hour, price_id);

--
-- Name: price price_no_overlap; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.price
    ADD CONSTRAINT price_no_overlap EXCLUDE USING gist (int8range(hashtextextended(((((layer || ' '::text) || kind) || ' '::text) || subject), (org_id)::bigint), hashtextextended(((((layer || ' '::text) || kind) || ' '::text) || subject), (org_id)::bigint), '[]'::text) WITH =, tstzrange(valid_from, valid_to) WITH &&) WHERE ((retired_version IS NULL));

--
-- Name: price price_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.price
    ADD CONSTRAINT price_pkey PRIMARY KEY (id);

--
-- Name: price_version price_version_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.price_version
    ADD CONSTRAINT price_version_pkey PRIMARY KEY (version);

--
-- Name: purged purged_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.purged
    ADD CONSTRAINT purged_pkey PRIMARY KEY (what, day, org_id);

--
-- Name: quarantine quarantine_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.quarantine
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (id);

--
-- Name: reconciliation reconciliation_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reconciliation
    ADD CONSTRAINT reconciliation_pkey PRIMARY KEY (org_id, hour);

--
-- Name: rerating_day rerating_day_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating_day
    ADD CONSTRAINT rerating_day_pkey PRIMARY KEY (rerating_id, day);

--
-- Name: rerating_failure rerating_failure_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating_failure
    ADD CONSTRAINT rerating_failure_pkey PRIMARY KEY (rerating_id, failed_in);

--
-- Name: rerating_line rerating_line_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating_line
    ADD CONSTRAINT rerating_line_pkey PRIMARY KEY (rerating_id, day, org_id, model_id, currency);

--
-- Name: rerating rerating_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating
    ADD CONSTRAINT rerating_pkey PRIMARY KEY (id);

--
-- Name: rerating_rollup rerating_rollup_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating_rollup
    ADD CONSTRAINT rerating_rollup_pkey PRIMARY KEY (rerating_id, bucket, org_id, model_id, outcome, currency, rating);

--
-- Name: rerating_tally rerating_tally_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating_tally
    ADD CONSTRAINT rerating_tally_pkey PRIMARY KEY (rerating_id, day, became);

--
-- Name: rollup_actor_15m rollup_actor_15m_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_actor_15m
    ADD CONSTRAINT rollup_actor_15m_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_actor_day rollup_actor_day_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_actor_day
    ADD CONSTRAINT rollup_actor_day_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_actor_hour rollup_actor_hour_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_actor_hour
    ADD CONSTRAINT rollup_actor_hour_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_client_15m rollup_client_15m_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_client_15m
    ADD CONSTRAINT rollup_client_15m_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_client_day rollup_client_day_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_client_day
    ADD CONSTRAINT rollup_client_day_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_client_hour rollup_client_hour_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_client_hour
    ADD CONSTRAINT rollup_client_hour_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_error_15m rollup_error_15m_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_error_15m
    ADD CONSTRAINT rollup_error_15m_pkey PRIMARY KEY (org_id, bucket, model_id, outcome, error_code_id);

--
-- Name: rollup_error_day rollup_error_day_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_error_day
    ADD CONSTRAINT rollup_error_day_pkey PRIMARY KEY (org_id, bucket, model_id, outcome, error_code_id);

--
-- Name: rollup_model_15m rollup_model_15m_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_model_15m
    ADD CONSTRAINT rollup_model_15m_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_model_day rollup_model_day_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_model_day
    ADD CONSTRAINT rollup_model_day_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_model_hour rollup_model_hour_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_model_hour
    ADD CONSTRAINT rollup_model_hour_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_org_15m rollup_org_15m_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_org_15m
    ADD CONSTRAINT rollup_org_15m_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_org_day rollup_org_day_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_org_day
    ADD CONSTRAINT rollup_org_day_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_org_hour rollup_org_hour_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_org_hour
    ADD CONSTRAINT rollup_org_hour_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_tag_15m rollup_tag_15m_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_tag_15m
    ADD CONSTRAINT rollup_tag_15m_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_tag_day rollup_tag_day_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_tag_day
    ADD CONSTRAINT rollup_tag_day_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: rollup_tag_hour rollup_tag_hour_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rollup_tag_hour
    ADD CONSTRAINT rollup_tag_hour_pkey PRIMARY KEY (org_id, bucket, member_id, outcome, currency, rating);

--
-- Name: schema_migration schema_migration_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (id);

--
-- Name: sign_in_attempt sign_in_attempt_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sign_in_attempt
    ADD CONSTRAINT sign_in_attempt_pkey PRIMARY KEY (state_hash);

--
-- Name: sign_in_link sign_in_link_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sign_in_link
    ADD CONSTRAINT sign_in_link_pkey PRIMARY KEY (token_hash);

--
-- Name: source_freshness source_freshness_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.source_freshness
    ADD CONSTRAINT source_freshness_pkey PRIMARY KEY (source_id);

--
-- Name: source source_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.source
    ADD CONSTRAINT source_name_key UNIQUE (name);

--
-- Name: source source_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.source
    ADD CONSTRAINT source_pkey PRIMARY KEY (id);

--
-- Name: stream_incident stream_incident_lane_id_batch_no_kind_from_offset_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.stream_incident
    ADD CONSTRAINT stream_incident_lane_id_batch_no_kind_from_offset_key UNIQUE (lane_id, batch_no, kind, from_offset);

--
-- Name: stream_incident stream_incident_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.stream_incident
    ADD CONSTRAINT stream_incident_pkey PRIMARY KEY (id);

--
-- Name: token_revocation token_revocation_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.token_revocation
    ADD CONSTRAINT token_revocation_pkey PRIMARY KEY (kind, issuer, value);

--
-- Name: watermark watermark_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.watermark
    ADD CONSTRAINT watermark_pkey PRIMARY KEY (consumer, lane_id);

--
-- Name: api_key_org; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX api_key_org ON public.api_key USING btree (org_id, created_at DESC, id DESC);

--
-- Name: api_key_replaces; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX api_key_replaces ON public.api_key USING btree (replaces) WHERE (replaces IS NOT NULL);

--
-- Name: browser_session_expires; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX browser_session_expires ON public.browser_session USING btree (expires_at);

--
-- Name: browser_session_org; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX browser_session_org ON public.browser_session USING btree (org_id);

--
-- Name: browser_session_principal; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX browser_session_principal ON public.browser_session USING btree (principal_id);

--
-- Name: ledger_updated; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ledger_updated ON public.ledger USING btree (updated_at);

--
-- Name: org_not_active; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX org_not_active ON public.org USING btree (id) WHERE (status <> 'active'::text);

--
-- Name: org_with_tag_keys; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX org_with_tag_keys ON public.org USING btree (id) WHERE (tag_keys <> '{}'::text[]);

--
-- Name: price_org; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX price_org ON public.price USING btree (org_id) WHERE (retired_version IS NULL);

--
-- Name: price_subject; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX price_subject ON public.price USING btree (subject, id) WHERE (retired_version IS NULL);

--
-- Name: quarantine_org; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX quarantine_org ON public.quarantine USING btree (org_id, state, id DESC);

--
-- Name: quarantine_received; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX quarantine_received ON public.quarantine USING btree (received_at);

--
-- Name: reconciliation_differs; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX reconciliation_differs ON public.reconciliation USING btree (hour) WHERE (state = 'differs'::text);

--
-- Name: rerating_line_org; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX rerating_line_org ON public.rerating_line USING btree (org_id);

--
-- Name: rerating_rollup_org; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX rerating_rollup_org ON public.rerating_rollup USING btree (org_id);

--
-- Name: sign_in_attempt_expires; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX sign_in_attempt_expires ON public.sign_in_attempt USING btree (expires_at);

--
-- Name: sign_in_link_expires; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX sign_in_link_expires ON public.sign_in_link USING btree (expires_at);

--
-- Name: token_revocation_until; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX token_revocation_until ON public.token_revocation USING btree (until);

--
-- Name: usage_event_batch; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX usage_event_batch ON ONLY public.usage_event USING btree (batch_id);

--
-- Name: usage_event_time; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX usage_event_time ON ONLY public.usage_event USING brin (occurred_at timestamptz_minmax_multi_ops) WITH (pages_per_range='32', autosummarize='on');

--
-- Name: audit_anchor audit_anchor_append_only; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER audit_anchor_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_anchor FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.audit_anchor ENABLE ALWAYS TRIGGER audit_anchor_append_only;

--
-- Name: audit_log audit_log_append_only; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER audit_log_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_log FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE public.audit_log ENABLE ALWAYS TRIGGER audit_log_append_only;

--
-- Name: api_key api_key_org_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_org_id_fkey FOREIGN KEY (org_id) REFERENCES public.org(id);

--
-- Name: api_key api_key_replaces_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_replaces_fkey FOREIGN KEY (replaces) REFERENCES public.api_key(id);

--
-- Name: browser_session browser_session_org_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.browser_session
    ADD CONSTRAINT browser_session_org_id_fkey FOREIGN KEY (org_id) REFERENCES public.org(id);

--
-- Name: budget_crossing budget_crossing_org_id_budget_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.budget_crossing
    ADD CONSTRAINT budget_crossing_org_id_budget_id_fkey FOREIGN KEY (org_id, budget_id) REFERENCES public.budget(org_id, budget_id) ON DELETE CASCADE;

--
-- Name: budget budget_org_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.budget
    ADD CONSTRAINT budget_org_id_fkey FOREIGN KEY (org_id) REFERENCES public.org(id);

--
-- Name: budget_terms budget_terms_org_id_budget_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.budget_terms
    ADD CONSTRAINT budget_terms_org_id_budget_id_fkey FOREIGN KEY (org_id, budget_id) REFERENCES public.budget(org_id, budget_id) ON DELETE CASCADE;

--
-- Name: dictionary dictionary_org_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.dictionary
    ADD CONSTRAINT dictionary_org_id_fkey FOREIGN KEY (org_id) REFERENCES public.org(id);

--
-- Name: ingestion_batches ingestion_batches_lane_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.ingestion_batches
    ADD CONSTRAINT ingestion_batches_lane_id_fkey FOREIGN KEY (lane_id) REFERENCES public.lane(id);

--
-- Name: pool_hour pool_hour_price_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.pool_hour
    ADD CONSTRAINT pool_hour_price_id_fkey FOREIGN KEY (price_id) REFERENCES public.price(id);

--
-- Name: price price_org_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.price
    ADD CONSTRAINT price_org_id_fkey FOREIGN KEY (org_id) REFERENCES public.org(id);

--
-- Name: price price_retired_version_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.price
    ADD CONSTRAINT price_retired_version_fkey FOREIGN KEY (retired_version) REFERENCES public.price_version(version);

--
-- Name: price price_version_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.price
    ADD CONSTRAINT price_version_fkey FOREIGN KEY (version) REFERENCES public.price_version(version);

--
-- Name: rerating_day rerating_day_rerating_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating_day
    ADD CONSTRAINT rerating_day_rerating_id_fkey FOREIGN KEY (rerating_id) REFERENCES public.rerating(id);

--
-- Name: rerating_failure rerating_failure_rerating_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating_failure
    ADD CONSTRAINT rerating_failure_rerating_id_fkey FOREIGN KEY (rerating_id) REFERENCES public.rerating(id);

--
-- Name: rerating_line rerating_line_rerating_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating_line
    ADD CONSTRAINT rerating_line_rerating_id_fkey FOREIGN KEY (rerating_id) REFERENCES public.rerating(id);

--
-- Name: rerating rerating_org_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating
    ADD CONSTRAINT rerating_org_id_fkey FOREIGN KEY (org_id) REFERENCES public.org(id);

--
-- Name: rerating rerating_price_version_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating
    ADD CONSTRAINT rerating_price_version_fkey FOREIGN KEY (price_version) REFERENCES public.price_version(version);

--
-- Name: rerating_rollup rerating_rollup_rerating_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating_rollup
    ADD CONSTRAINT rerating_rollup_rerating_id_fkey FOREIGN KEY (rerating_id) REFERENCES public.rerating(id);

--
-- Name: rerating_tally rerating_tally_rerating_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.rerating_tally
    ADD CONSTRAINT rerating_tally_rerating_id_fkey FOREIGN KEY (rerating_id) REFERENCES public.rerating(id);

--
-- Name: source_freshness source_freshness_source_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.source_freshness
    ADD CONSTRAINT source_freshness_source_id_fkey FOREIGN KEY (source_id) REFERENCES public.source(id);

--
-- Name: stream_incident stream_incident_lane_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.stream_incident
    ADD CONSTRAINT stream_incident_lane_id_fkey FOREIGN KEY (lane_id) REFERENCES public.lane(id);

--
-- Name: watermark watermark_consumer_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.watermark
    ADD CONSTRAINT watermark_consumer_fkey FOREIGN KEY (consumer) REFERENCES public.fold_state(consumer);

--
-- Name: watermark watermark_lane_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.watermark
    ADD CONSTRAINT watermark_lane_id_fkey FOREIGN KEY (lane_id) REFERENCES public.lane(id);

--
-- Name: api_key; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.api_key ENABLE ROW LEVEL SECURITY;

--
-- Name: audit_anchor; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.audit_anchor ENABLE ROW LEVEL SECURITY;

--
-- Name: audit_log; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.audit_log ENABLE ROW LEVEL SECURITY;

--
-- Name: audit_anchor audited; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY audited ON public.audit_anchor FOR SELECT TO tallystick_auditor USING (true);

--
-- Name: audit_log audited; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY audited ON public.audit_log FOR SELECT TO tallystick_auditor USING (true);

--
-- Name: browser_session; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.browser_session ENABLE ROW LEVEL SECURITY;

--
-- Name: budget; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.budget ENABLE ROW LEVEL SECURITY;

--
-- Name: budget_crossing; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.budget_crossing ENABLE ROW LEVEL SECURITY;

--
-- Name: budget_terms; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.budget_terms ENABLE ROW LEVEL SECURITY;

--
-- Name: api_key chosen_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY chosen_org ON public.api_key TO tallystick_admin USING (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text))) WITH CHECK (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text)));

--
-- Name: browser_session chosen_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY chosen_org ON public.browser_session TO tallystick_admin USING (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text))) WITH CHECK (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text)));

--
-- Name: budget chosen_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY chosen_org ON public.budget TO tallystick_admin USING (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text))) WITH CHECK (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text)));

--
-- Name: budget_crossing chosen_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY chosen_org ON public.budget_crossing TO tallystick_admin USING (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text))) WITH CHECK (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text)));

--
-- Name: budget_terms chosen_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY chosen_org ON public.budget_terms TO tallystick_admin USING (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text))) WITH CHECK (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text)));

--
-- Name: org chosen_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY chosen_org ON public.org TO tallystick_admin USING (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (id)::text))) WITH CHECK (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (id)::text)));

--
-- Name: price chosen_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY chosen_org ON public.price TO tallystick_admin USING (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text))) WITH CHECK (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text)));

--
-- Name: rerating chosen_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY chosen_org ON public.rerating TO tallystick_admin USING (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text))) WITH CHECK (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text)));

--
-- Name: rerating_line chosen_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY chosen_org ON public.rerating_line TO tallystick_admin USING (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text))) WITH CHECK (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text)));

--
-- Name: rerating_rollup chosen_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY chosen_org ON public.rerating_rollup TO tallystick_admin USING (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text))) WITH CHECK (((current_setting('app.org_id'::text, true) = '*'::text) OR (current_setting('app.org_id'::text, true) = (org_id)::text)));

--
-- Name: dictionary; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.dictionary ENABLE ROW LEVEL SECURITY;

--
-- Name: api_key every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.api_key FOR SELECT TO tallystick_system USING (true);

--
-- Name: audit_anchor every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.audit_anchor FOR SELECT TO tallystick_system USING (true);

--
-- Name: audit_log every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.audit_log FOR SELECT TO tallystick_system USING (true);

--
-- Name: browser_session every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.browser_session FOR SELECT TO tallystick_system USING (true);

--
-- Name: budget every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.budget FOR SELECT TO tallystick_system USING (true);

--
-- Name: budget_crossing every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.budget_crossing FOR SELECT TO tallystick_system USING (true);

--
-- Name: budget_terms every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.budget_terms FOR SELECT TO tallystick_system USING (true);

--
-- Name: dictionary every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.dictionary FOR SELECT TO tallystick_system USING (true);

--
-- Name: freshness every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.freshness FOR SELECT TO tallystick_system USING (true);

--
-- Name: ledger every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.ledger FOR SELECT TO tallystick_system USING (true);

--
-- Name: org every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.org FOR SELECT TO tallystick_system USING (true);

--
-- Name: price every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.price FOR SELECT TO tallystick_system USING (true);

--
-- Name: purged every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.purged FOR SELECT TO tallystick_system USING (true);

--
-- Name: quarantine every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.quarantine FOR SELECT TO tallystick_system USING (true);

--
-- Name: reconciliation every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.reconciliation FOR SELECT TO tallystick_system USING (true);

--
-- Name: rerating every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rerating FOR SELECT TO tallystick_system USING (true);

--
-- Name: rerating_line every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rerating_line FOR SELECT TO tallystick_system USING (true);

--
-- Name: rerating_rollup every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rerating_rollup FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_actor_15m every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_actor_15m FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_actor_day every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_actor_day FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_actor_hour every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_actor_hour FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_client_15m every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_client_15m FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_client_day every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_client_day FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_client_hour every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_client_hour FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_error_15m every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_error_15m FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_error_day every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_error_day FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_model_15m every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_model_15m FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_model_day every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_model_day FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_model_hour every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_model_hour FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_org_15m every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_org_15m FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_org_day every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_org_day FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_org_hour every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_org_hour FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_tag_15m every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_tag_15m FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_tag_day every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_tag_day FOR SELECT TO tallystick_system USING (true);

--
-- Name: rollup_tag_hour every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.rollup_tag_hour FOR SELECT TO tallystick_system USING (true);

--
-- Name: usage_event every_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_org ON public.usage_event FOR SELECT TO tallystick_system USING (true);

--
-- Name: purged every_purged_day; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY every_purged_day ON public.purged FOR SELECT TO tallystick_api USING ((what = 'all'::text));

--
-- Name: freshness; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.freshness ENABLE ROW LEVEL SECURITY;

--
-- Name: ledger; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.ledger ENABLE ROW LEVEL SECURITY;

--
-- Name: org names; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY names ON public.org FOR SELECT TO tallystick_directory USING (true);

--
-- Name: org; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.org ENABLE ROW LEVEL SECURITY;

--
-- Name: api_key own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.api_key TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: audit_anchor own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.audit_anchor TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: audit_log own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.audit_log TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: browser_session own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.browser_session TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: budget own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.budget FOR SELECT TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: budget_crossing own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.budget_crossing FOR SELECT TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: budget_terms own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.budget_terms FOR SELECT TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: dictionary own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.dictionary TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: freshness own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.freshness TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: ledger own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.ledger TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: org own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.org FOR SELECT TO tallystick_api USING ((id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: price own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.price FOR SELECT TO tallystick_api USING (((NULLIF(current_setting('app.org_id'::text, true), ''::text) IS NOT NULL) AND (org_id = ANY (ARRAY[0, (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer]))));

--
-- Name: purged own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.purged TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: quarantine own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.quarantine TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: reconciliation own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.reconciliation TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rerating own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rerating FOR SELECT TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rerating_line own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rerating_line FOR SELECT TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rerating_rollup own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rerating_rollup FOR SELECT TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_actor_15m own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_actor_15m TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_actor_day own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_actor_day TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_actor_hour own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_actor_hour TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_client_15m own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_client_15m TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_client_day own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_client_day TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_client_hour own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_client_hour TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_error_15m own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_error_15m TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_error_day own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_error_day TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_model_15m own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_model_15m TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_model_day own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_model_day TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_model_hour own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_model_hour TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_org_15m own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_org_15m TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_org_day own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_org_day TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_org_hour own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_org_hour TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_tag_15m own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_tag_15m TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_tag_day own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_tag_day TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: rollup_tag_hour own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.rollup_tag_hour TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: usage_event own_org; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own_org ON public.usage_event TO tallystick_api USING ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer)) WITH CHECK ((org_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::integer));

--
-- Name: price; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.price ENABLE ROW LEVEL SECURITY;

--
-- Name: purged; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.purged ENABLE ROW LEVEL SECURITY;

--
-- Name: quarantine; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.quarantine ENABLE ROW LEVEL SECURITY;

--
-- Name: reconciliation; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.reconciliation ENABLE ROW LEVEL SECURITY;

--
-- Name: rerating; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rerating ENABLE ROW LEVEL SECURITY;

--
-- Name: rerating_line; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rerating_line ENABLE ROW LEVEL SECURITY;

--
-- Name: rerating_rollup; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rerating_rollup ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_actor_15m; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_actor_15m ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_actor_day; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_actor_day ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_actor_hour; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_actor_hour ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_client_15m; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_client_15m ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_client_day; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_client_day ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_client_hour; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_client_hour ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_error_15m; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_error_15m ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_error_day; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_error_day ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_model_15m; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_model_15m ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_model_day; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_model_day ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_model_hour; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_model_hour ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_org_15m; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_org_15m ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_org_day; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_org_day ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_org_hour; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_org_hour ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_tag_15m; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_tag_15m ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_tag_day; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_tag_day ENABLE ROW LEVEL SECURITY;

--
-- Name: rollup_tag_hour; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.rollup_tag_hour ENABLE ROW LEVEL SECURITY;

--
-- Name: usage_event; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.usage_event ENABLE ROW LEVEL SECURITY;

--
-- Name: SCHEMA public; Type: ACL; Schema: -; Owner: -
--

GRANT USAGE ON SCHEMA public TO tallystick_api;
GRANT USAGE ON SCHEMA public TO tallystick_system;
GRANT USAGE ON SCHEMA public TO tallystick_admin;
GRANT USAGE ON SCHEMA public TO tallystick_directory;
GRANT USAGE ON SCHEMA public TO tallystick_auditor;

--
-- Name: FUNCTION append_audit(p_org integer, p_entry text, OUT seq bigint, OUT hash bytea); Type: ACL; Schema: public; Owner: -
--

REVOKE ALL ON FUNCTION public.append_audit(p_org integer, p_entry text, OUT seq bigint, OUT hash bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION public.append_audit(p_org integer, p_entry text, OUT seq bigint, OUT hash bytea) TO tallystick_api;
GRANT ALL ON FUNCTION public.append_audit(p_org integer, p_entry text, OUT seq bigint, OUT hash bytea) TO tallystick_system;
GRANT ALL ON FUNCTION public.append_audit(p_org integer, p_entry text, OUT seq bigint, OUT hash bytea) TO tallystick_admin;

--
-- Name: FUNCTION refuse_change(); Type: ACL; Schema: public; Owner: -
--

REVOKE ALL ON FUNCTION public.refuse_change() FROM PUBLIC;

--
-- Name: FUNCTION exact_sum(bigint); Type: ACL; Schema: public; Owner: -
--

REVOKE ALL ON FUNCTION public.exact_sum(bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION public.exact_sum(bigint) TO tallystick_api;
GRANT ALL ON FUNCTION public.exact_sum(bigint) TO tallystick_system;

--
-- Name: TABLE api_key; Type: ACL; Schema: public; Owner: -
--

GRANT INSERT ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.id; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(id) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(id) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(id) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.org_id; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(org_id) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(org_id) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(org_id) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.name; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(name) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(name) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(name) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.roles; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(roles) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(roles) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(roles) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.scopes; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(scopes) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(scopes) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(scopes) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.writes_for; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(writes_for) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(writes_for) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(writes_for) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.environment; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(environment) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(environment) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(environment) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.created_at; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(created_at) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(created_at) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(created_at) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.created_by; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(created_by) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(created_by) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(created_by) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.expires_at; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(expires_at) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(expires_at) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(expires_at),UPDATE(expires_at) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.revoked_at; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(revoked_at) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(revoked_at) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(revoked_at),UPDATE(revoked_at) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.last_used_at; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(last_used_at) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(last_used_at) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(last_used_at) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: COLUMN api_key.replaces; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(replaces) ON TABLE public.api_key TO tallystick_api;
GRANT SELECT(replaces) ON TABLE public.api_key TO tallystick_system;
GRANT SELECT(replaces) ON TABLE public.api_key TO tallystick_admin;

--
-- Name: TABLE audit_anchor; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.audit_anchor TO tallystick_api;
GRANT SELECT ON TABLE public.audit_anchor TO tallystick_system;
GRANT SELECT ON TABLE public.audit_anchor TO tallystick_auditor;

--
-- Name: TABLE audit_log; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.audit_log TO tallystick_api;
GRANT SELECT ON TABLE public.audit_log TO tallystick_system;
GRANT SELECT ON TABLE public.audit_log TO tallystick_auditor;

--
-- Name: TABLE browser_session; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT,INSERT ON TABLE public.browser_session TO tallystick_admin;

--
-- Name: COLUMN browser_session.id; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(id) ON TABLE public.browser_session TO tallystick_api;
GRANT SELECT(id) ON TABLE public.browser_session TO tallystick_system;

--
-- Name: COLUMN browser_session.org_id; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(org_id) ON TABLE public.browser_session TO tallystick_api;
GRANT SELECT(org_id) ON TABLE public.browser_session TO tallystick_system;

--
-- Name: COLUMN browser_session.principal_id; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(principal_id) ON TABLE public.browser_session TO tallystick_api;
GRANT SELECT(principal_id) ON TABLE public.browser_session TO tallystick_system;

--
-- Name: COLUMN browser_session.created_at; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(created_at) ON TABLE public.browser_session TO tallystick_api;
GRANT SELECT(created_at) ON TABLE public.browser_session TO tallystick_system;

--
-- Name: COLUMN browser_session.last_seen_at; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(last_seen_at) ON TABLE public.browser_session TO tallystick_api;
GRANT SELECT(last_seen_at) ON TABLE public.browser_session TO tallystick_system;
GRANT UPDATE(last_seen_at) ON TABLE public.browser_session TO tallystick_admin;

--
-- Name: COLUMN browser_session.expires_at; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(expires_at) ON TABLE public.browser_session TO tallystick_api;
GRANT SELECT(expires_at) ON TABLE public.browser_session TO tallystick_system;
GRANT UPDATE(expires_at) ON TABLE public.browser_session TO tallystick_admin;

--
-- Name: COLUMN browser_session.revoked_at; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(revoked_at) ON TABLE public.browser_session TO tallystick_api;
GRANT SELECT(revoked_at) ON TABLE public.browser_session TO tallystick_system;
GRANT UPDATE(revoked_at) ON TABLE public.browser_session TO tallystick_admin;

--
-- Name: TABLE budget; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.budget TO tallystick_api;
GRANT SELECT ON TABLE public.budget TO tallystick_system;
GRANT SELECT,INSERT,DELETE ON TABLE public.budget TO tallystick_admin;

--
-- Name: COLUMN budget.name; Type: ACL; Schema: public; Owner: -
--

GRANT UPDATE(name) ON TABLE public.budget TO tallystick_admin;

--
-- Name: COLUMN budget.updated_at; Type: ACL; Schema: public; Owner: -
--

GRANT UPDATE(updated_at) ON TABLE public.budget TO tallystick_admin;

--
-- Name: TABLE budget_crossing; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.budget_crossing TO tallystick_api;
GRANT SELECT ON TABLE public.budget_crossing TO tallystick_system;
GRANT SELECT,INSERT ON TABLE public.budget_crossing TO tallystick_admin;

--
-- Name: TABLE budget_terms; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.budget_terms TO tallystick_api;
GRANT SELECT ON TABLE public.budget_terms TO tallystick_system;
GRANT SELECT,INSERT ON TABLE public.budget_terms TO tallystick_admin;

--
-- Name: COLUMN budget_terms.amount_nano; Type: ACL; Schema: public; Owner: -
--

GRANT UPDATE(amount_nano) ON TABLE public.budget_terms TO tallystick_admin;

--
-- Name: COLUMN budget_terms.thresholds; Type: ACL; Schema: public; Owner: -
--

GRANT UPDATE(thresholds) ON TABLE public.budget_terms TO tallystick_admin;

--
-- Name: TABLE dictionary; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.dictionary TO tallystick_api;
GRANT SELECT ON TABLE public.dictionary TO tallystick_system;

--
-- Name: TABLE event_key_partition; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.event_key_partition TO tallystick_system;

--
-- Name: TABLE fold_state; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.fold_state TO tallystick_api;
GRANT SELECT ON TABLE public.fold_state TO tallystick_system;
GRANT SELECT ON TABLE public.fold_state TO tallystick_directory;

--
-- Name: TABLE freshness; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.freshness TO tallystick_api;
GRANT SELECT ON TABLE public.freshness TO tallystick_system;

--
-- Name: TABLE ingestion_batches; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.ingestion_batches TO tallystick_system;

--
-- Name: TABLE installation; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.installation TO tallystick_api;
GRANT SELECT ON TABLE public.installation TO tallystick_system;

--
-- Name: TABLE lane; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.lane TO tallystick_api;
GRANT SELECT ON TABLE public.lane TO tallystick_system;

--
-- Name: TABLE lane_member; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.lane_member TO tallystick_system;

--
-- Name: TABLE ledger; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.ledger TO tallystick_api;
GRANT SELECT ON TABLE public.ledger TO tallystick_system;

--
-- Name: TABLE model; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.model TO tallystick_api;
GRANT SELECT ON TABLE public.model TO tallystick_system;
GRANT SELECT,INSERT,UPDATE ON TABLE public.model TO tallystick_admin;

--
-- Name: TABLE org; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.org TO tallystick_api;
GRANT SELECT ON TABLE public.org TO tallystick_system;
GRANT SELECT ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.id; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(id) ON TABLE public.org TO tallystick_directory;

--
-- Name: COLUMN org.external_id; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(external_id) ON TABLE public.org TO tallystick_directory;
GRANT INSERT(external_id) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.name; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(name) ON TABLE public.org TO tallystick_directory;
GRANT INSERT(name),UPDATE(name) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.time_zone; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(time_zone) ON TABLE public.org TO tallystick_directory;
GRANT INSERT(time_zone),UPDATE(time_zone) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.currency; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(currency) ON TABLE public.org TO tallystick_directory;
GRANT INSERT(currency) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.created_at; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(created_at) ON TABLE public.org TO tallystick_directory;
GRANT INSERT(created_at) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.billing_contact; Type: ACL; Schema: public; Owner: -
--

GRANT INSERT(billing_contact),UPDATE(billing_contact) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.entitlements; Type: ACL; Schema: public; Owner: -
--

GRANT INSERT(entitlements),UPDATE(entitlements) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.status; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(status) ON TABLE public.org TO tallystick_directory;
GRANT UPDATE(status) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.status_changed_at; Type: ACL; Schema: public; Owner: -
--

GRANT UPDATE(status_changed_at) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.updated_at; Type: ACL; Schema: public; Owner: -
--

GRANT INSERT(updated_at),UPDATE(updated_at) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.cost_basis; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(cost_basis) ON TABLE public.org TO tallystick_directory;
GRANT INSERT(cost_basis),UPDATE(cost_basis) ON TABLE public.org TO tallystick_admin;

--
-- Name: COLUMN org.tag_keys; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(tag_keys) ON TABLE public.org TO tallystick_directory;
GRANT INSERT(tag_keys),UPDATE(tag_keys) ON TABLE public.org TO tallystick_admin;

--
-- Name: TABLE pool_hour; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.pool_hour TO tallystick_system;

--
-- Name: TABLE price; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.price TO tallystick_api;
GRANT SELECT ON TABLE public.price TO tallystick_system;
GRANT SELECT,INSERT ON TABLE public.price TO tallystick_admin;

--
-- Name: COLUMN price.retired_version; Type: ACL; Schema: public; Owner: -
--

GRANT UPDATE(retired_version) ON TABLE public.price TO tallystick_admin;

--
-- Name: TABLE price_version; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.price_version TO tallystick_system;
GRANT SELECT,INSERT ON TABLE public.price_version TO tallystick_admin;

--
-- Name: COLUMN price_version.version; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT(version) ON TABLE public.price_version TO tallystick_api;

--
-- Name: TABLE purged; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.purged TO tallystick_api;
GRANT SELECT ON TABLE public.purged TO tallystick_system;

--
-- Name: TABLE quarantine; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.quarantine TO tallystick_api;
GRANT SELECT ON TABLE public.quarantine TO tallystick_system;

--
-- Name: TABLE reconciliation; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.reconciliation TO tallystick_api;
GRANT SELECT ON TABLE public.reconciliation TO tallystick_system;

--
-- Name: TABLE rerating; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rerating TO tallystick_api;
GRANT SELECT ON TABLE public.rerating TO tallystick_system;
GRANT SELECT,INSERT ON TABLE public.rerating TO tallystick_admin;

--
-- Name: COLUMN rerating.state; Type: ACL; Schema: public; Owner: -
--

GRANT UPDATE(state) ON TABLE public.rerating TO tallystick_admin;

--
-- Name: COLUMN rerating.finished_at; Type: ACL; Schema: public; Owner: -
--

GRANT UPDATE(finished_at) ON TABLE public.rerating TO tallystick_admin;

--
-- Name: TABLE rerating_day; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rerating_day TO tallystick_system;
GRANT SELECT ON TABLE public.rerating_day TO tallystick_admin;

--
-- Name: TABLE rerating_failure; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rerating_failure TO tallystick_system;
GRANT SELECT ON TABLE public.rerating_failure TO tallystick_admin;

--
-- Name: TABLE rerating_line; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rerating_line TO tallystick_api;
GRANT SELECT ON TABLE public.rerating_line TO tallystick_system;
GRANT SELECT ON TABLE public.rerating_line TO tallystick_admin;

--
-- Name: TABLE rerating_rollup; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rerating_rollup TO tallystick_api;
GRANT SELECT ON TABLE public.rerating_rollup TO tallystick_system;
GRANT SELECT ON TABLE public.rerating_rollup TO tallystick_admin;

--
-- Name: TABLE rerating_tally; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rerating_tally TO tallystick_system;
GRANT SELECT ON TABLE public.rerating_tally TO tallystick_admin;

--
-- Name: TABLE rollup_actor_15m; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_actor_15m TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_actor_15m TO tallystick_system;

--
-- Name: TABLE rollup_actor_day; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_actor_day TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_actor_day TO tallystick_system;

--
-- Name: TABLE rollup_actor_hour; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_actor_hour TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_actor_hour TO tallystick_system;

--
-- Name: TABLE rollup_client_15m; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_client_15m TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_client_15m TO tallystick_system;

--
-- Name: TABLE rollup_client_day; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_client_day TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_client_day TO tallystick_system;

--
-- Name: TABLE rollup_client_hour; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_client_hour TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_client_hour TO tallystick_system;

--
-- Name: TABLE rollup_error_15m; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_error_15m TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_error_15m TO tallystick_system;

--
-- Name: TABLE rollup_error_day; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_error_day TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_error_day TO tallystick_system;

--
-- Name: TABLE rollup_model_15m; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_model_15m TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_model_15m TO tallystick_system;

--
-- Name: TABLE rollup_model_day; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_model_day TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_model_day TO tallystick_system;

--
-- Name: TABLE rollup_model_hour; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_model_hour TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_model_hour TO tallystick_system;

--
-- Name: TABLE rollup_org_15m; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_org_15m TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_org_15m TO tallystick_system;

--
-- Name: TABLE rollup_org_day; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_org_day TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_org_day TO tallystick_system;

--
-- Name: TABLE rollup_org_hour; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_org_hour TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_org_hour TO tallystick_system;

--
-- Name: TABLE rollup_tag_15m; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_tag_15m TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_tag_15m TO tallystick_system;

--
-- Name: TABLE rollup_tag_day; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_tag_day TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_tag_day TO tallystick_system;

--
-- Name: TABLE rollup_tag_hour; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.rollup_tag_hour TO tallystick_api;
GRANT SELECT ON TABLE public.rollup_tag_hour TO tallystick_system;

--
-- Name: TABLE sign_in_attempt; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT,INSERT,DELETE ON TABLE public.sign_in_attempt TO tallystick_admin;

--
-- Name: TABLE sign_in_link; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT,INSERT ON TABLE public.sign_in_link TO tallystick_admin;

--
-- Name: COLUMN sign_in_link.used_at; Type: ACL; Schema: public; Owner: -
--

GRANT UPDATE(used_at) ON TABLE public.sign_in_link TO tallystick_admin;

--
-- Name: TABLE source; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.source TO tallystick_api;
GRANT SELECT ON TABLE public.source TO tallystick_system;

--
-- Name: TABLE source_freshness; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.source_freshness TO tallystick_api;
GRANT SELECT ON TABLE public.source_freshness TO tallystick_system;

--
-- Name: TABLE stream_incident; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.stream_incident TO tallystick_system;

--
-- Name: TABLE token_revocation; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.token_revocation TO tallystick_system;
GRANT SELECT,INSERT,UPDATE ON TABLE public.token_revocation TO tallystick_admin;

--
-- Name: TABLE usage_event; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.usage_event TO tallystick_api;
GRANT SELECT ON TABLE public.usage_event TO tallystick_system;

--
-- Name: TABLE watermark; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.watermark TO tallystick_api;
GRANT SELECT ON TABLE public.watermark TO tallystick_system;

--
-- PostgreSQL database dump complete
--
