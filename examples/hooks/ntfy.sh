#!/bin/sh
# Posts the end of a job to a topic of ntfy, or to anything that takes a text by HTTP.
#
#   [client]
#   on_end = "/home/ada/hooks/ntfy.sh https://ntfy.example.org/a-topic-that-nobody-guesses"
#
# What others chose (the package's name, a trainer's message) stays inside the quotes: it is data, never a command.
set -eu
case "$SLEAP_RTC_JOB_OUTCOME" in
    succeeded | stopped-early) priority=default ;;
    *) priority=high ;;
esac
printf '%s\n' "$SLEAP_RTC_JOB_SUMMARY" |
    curl --silent --show-error --fail --max-time 20 \
        --header "Title: sleap-rtc" --header "Priority: $priority" \
        --data-binary @- -- "$1"
