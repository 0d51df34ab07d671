"""The lead and its rules: pure, with no driver, HTTP or SDK import."""
