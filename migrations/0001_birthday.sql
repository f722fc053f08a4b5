-- Who was born when. The key is the lower-case username: one identity whatever the case of a request.
CREATE TABLE dob_api.birthday (
    username text COLLATE "C" PRIMARY KEY CHECK (username ~ '^[a-z]{1,255}$'),
    date_of_birth date NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
