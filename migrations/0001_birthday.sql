-- Each user's date of birth. The key is the lower-case username, so upper and lower case are the same user.
CREATE TABLE dob_api.birthday (
    username text COLLATE "C" PRIMARY KEY CHECK (username ~ '^[a-z]{1,255}$'),
    date_of_birth date NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
