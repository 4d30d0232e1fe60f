<?php
// Knows a guest's name as one.
const RELEASE = 'v1';
require 'guestbook.php';

$post = $_SERVER['REQUEST_METHOD'] == 'POST';
[$db] = database($post);
if ($post) {
    $row = [field('name'), field('message')];
    if (!in_array('', $row)) {
        $db->prepare('INSERT INTO entry (name, message) VALUES (?, ?)')->execute($row);
        $db->exec('COMMIT');
    }
    done(!in_array('', $row));
}
page('<input name="name" required>', $db, 'name');
