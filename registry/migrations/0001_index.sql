-- Plain SQL for PostgreSQL and what speaks its protocol: primary keys that hash well, no sequence, no foreign key, no
-- trigger. What the columns mean: registry/src/store.rs.
CREATE TABLE entries (
    key bytea PRIMARY KEY,
    row bytea NOT NULL
);
CREATE TABLE notes (
    queue bytea NOT NULL,
    at bigint NOT NULL,
    id bytea NOT NULL,
    row bytea NOT NULL,
    PRIMARY KEY (queue, at, id)
);
CREATE TABLE requests (
    id bytea NOT NULL,
    until bigint NOT NULL,
    PRIMARY KEY (id, until)
);
CREATE TABLE meters (
    id bytea PRIMARY KEY,
    count bigint NOT NULL,
    until bigint NOT NULL
);
