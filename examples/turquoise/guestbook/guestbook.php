<?php
// What is the same in all releases.

// Opens the database for one request, which is one transaction. That looks at the
// version first, and no migration comes between it and the end of the request: what
// was true of the structure stays true.
function database(bool $writes): array
{
    $ini = parse_ini_file(getenv('GUESTBOOK_INI') ?: '/etc/guestbook.ini');
    $db = new PDO($ini['dsn'], $ini['user'] ?? null, $ini['password'] ?? null);
    if ($db->getAttribute(PDO::ATTR_DRIVER_NAME) == 'sqlite') {
        // Only one transaction writes at a time, and others read what was there before.
        $db->exec($writes ? 'BEGIN IMMEDIATE' : 'BEGIN');
    } else {
        // schema-migrate takes what excludes this lock, which others share.
        $db->exec('BEGIN; LOCK TABLE schema_version IN ROW SHARE MODE');
    }
    $version = (int) $db->query('SELECT version FROM schema_version')->fetchColumn();
    header('X-Guestbook: ' . RELEASE . ", database $version");
    lives_with($version);
    return [$db, $version];
}

// The rules of bluegreen see to it that this is never said.
function lives_with(int $version): void
{
    $range = parse_ini_file(__DIR__ . '/schema.toml')['works_with'];
    [$from, $to] = array_pad(explode('..', $range), 2, $range);
    if ($version < $from || $version > $to) {
        error_log('guestbook: ' . RELEASE . " works with $range of the database, which is at $version");
        http_response_code(500);
        exit('out of order');
    }
}

// A field of a form, with single spaces.
function field(string $name): string
{
    return trim(preg_replace('/\s+/u', ' ', $_POST[$name] ?? ''));
}

// After a form that was written into the database, or was not filled in.
function done(bool $written): never
{
    $written ? header('Location: /', true, 303) : http_response_code(400);
    exit;
}

// The newest entries, below a form. The transaction ends before anything is sent: who
// reads slowly is in nobody's way.
function page(string $inputs, PDO $db, string $name): void
{
    $entries = $db->query("SELECT $name, message FROM entry ORDER BY id DESC LIMIT 100")->fetchAll(PDO::FETCH_NUM);
    $db->exec('COMMIT');
    echo "<!doctype html>\n<title>Guestbook</title>\n<h1>Guestbook</h1>\n",
        "<form method=\"post\">$inputs<input name=\"message\" required><button>Sign</button></form>\n<ul>\n";
    foreach ($entries as [$who, $message]) {
        echo '<li><b>', htmlspecialchars($who), '</b> ', htmlspecialchars($message), "</li>\n";
    }
    echo "</ul>\n";
}
