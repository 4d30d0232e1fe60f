-- Names have single spaces: 2.sql relies on that.
CREATE TABLE entry (
	id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name text NOT NULL CHECK (name <> '' AND name = trim(name) AND name NOT LIKE '%  %'),
	message text NOT NULL
);
