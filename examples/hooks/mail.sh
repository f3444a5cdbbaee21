#!/bin/sh
# Mails the end of a job, through the machine's own sendmail.
#
#   [worker]
#   on_job_end = "/opt/sleap/hooks/mail.sh gpu-admins@example.org"
#
# The address is the operator's. What others chose is in the body, behind the empty line that ends the headers.
set -eu
{
    printf 'To: %s\n' "$1"
    printf 'Subject: sleap-rtc: a %s job %s\n' "$SLEAP_RTC_JOB_TYPE" "$SLEAP_RTC_JOB_OUTCOME"
    printf 'Content-Type: text/plain; charset=utf-8\n\n'
    printf '%s\n\n' "$SLEAP_RTC_JOB_SUMMARY"
    printf 'job     %s\n' "$SLEAP_RTC_JOB_ID"
    printf 'user    %s\n' "${SLEAP_RTC_JOB_USER:-unknown}"
    printf 'worker  %s\n' "$SLEAP_RTC_JOB_WORKER"
    if [ -n "$SLEAP_RTC_JOB_RESULT" ]; then
        printf 'result  %s\n' "$SLEAP_RTC_JOB_RESULT"
    fi
} | "${SENDMAIL:-/usr/sbin/sendmail}" -t -i
