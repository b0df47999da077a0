"""The description of each operation: what its summary does not say."""

PAGED = "Follow `pages.next` until it is null."
SAME_AS_READ = "The response is the whole conversation. Clients also send it to `/conversations/{id}/reply`."
LAUNCH = (
    "The checks are those of the console; a refusal names the key to change. Above the number of people that the"
    " workspace allows without a confirmation, send `confirm`, from the review. With `reviewed`, also from the review,"
    " an audience that has changed meanwhile is refused. More than 10,000 people are launched by a worker: then"
    " `launching_at` is set until it has finished."
)
VISITOR = "A visitor is a lead who wrote in the messenger. The id is that of the lead."

DESCRIPTIONS: dict[str, str] = {
    "POST /users": "Identifies the user by `id`, then `user_id`, then `email`, and stores the fields that are sent."
    " `warnings` names the custom attributes that could not be stored.",
    "GET /users": "With `user_id`, `email` or `id` the response is one user. Without, it is a page of all users, or of"
    f" those with a tag, in a segment, or created within some days. {PAGED} Pages end at 10,000 users: scroll for"
    " more.",
    "DELETE /users": "Archives the user: they leave every audience at once and return when they are sent again."
    " `POST /user_delete_requests` erases for good.",
    "GET /users/scroll": "Reads all users. Repeat the call with the `scroll_param` of the response until the list is"
    " empty. A `scroll_param` is valid for 24 hours.",
    "GET /users/{id}": "The id is ours. To find a user by your own ID, use `GET /users?user_id=`.",
    "DELETE /users/{id}": "Archives the user by our id. They return when they are sent again.",
    "POST /contacts": "A lead has no `user_id` of yours; the response shows one of ours, such as `lead-17`, which later"
    " calls accept. An empty body creates a lead without any data.",
    "GET /contacts": f"With `user_id` or `id` the response is one lead, otherwise a page of leads. {PAGED}",
    "GET /contacts/scroll": "Reads all leads. Repeat the call with the `scroll_param` of the response until the list is"
    " empty.",
    "GET /contacts/{id}": "The id is ours; `GET /contacts?user_id=lead-17` finds the same lead.",
    "PUT /contacts/{id}": "Stores the fields that are sent; others keep their values.",
    "DELETE /contacts/{id}": "Archives the lead: they leave every audience at once.",
    "POST /customers/search": "The only operator is `=`. A field is `id`, `role`, or a text, number or boolean that"
    " rules use, also `custom_attributes.NAME`. Texts match with upper and lower case. An email also finds leads who"
    " only typed it in the messenger. For the next page send `starting_after` of `pages.next`.",
    "POST /companies": "Stores the fields that are sent. `plan` is a name; `monthly_spend` is a whole number, and a"
    " fraction is cut off. Add users to a company by `companies` of `POST /users`.",
    "GET /companies": "With `company_id` or `name` the response is one company; with `company_id` and `type=user` a"
    f" page of its users; otherwise a page of companies. {PAGED}",
    "GET /companies/scroll": "Reads all companies. Repeat the call with the `scroll_param` of the response until the"
    " list is empty.",
    "GET /companies/{id}": "The id is ours. To find a company by your own ID, use `GET /companies?company_id=`.",
    "GET /companies/{id}/users": f"A page of the users who are members of the company. {PAGED}",
    "POST /events": "Names ignore case, and `.` and `$` become `-`. An event with the user, name and second of an"
    " earlier one is accepted and not stored again. `metadata` has at most 10 keys. An unknown user is a 404.",
    "GET /events": "Events of one user, 50 on a page by default; `pages.next` has the cursor. `summary=true` returns"
    " the number, first and last time of each event name instead, also of older events.",
    "POST /tags": "Names ignore case. At most 50 `users`, or as many `companies`, in one call; `untag` removes the"
    " tag.",
    "GET /subscription_types": "The topics of messages, also archived ones. Customers get all messages until they opt"
    " out of a topic, so each `consent_type` is `opt_out`.",
    "GET /contacts/{id}/subscriptions": "The topics that a user or lead opted out of, by the `id` of either.",
    "POST /contacts/{id}/subscriptions": "No message with the topic is sent to the user or lead any more, by any"
    " channel. `id` is that of a subscription type. `consent_type` can only be `opt_out`.",
    "DELETE /contacts/{id}/subscriptions/{subscription_id}": "Messages with the topic are sent again. An opt-out that"
    " the customer stated themselves is a 409 `conflict`: only they or a teammate can undo it.",
    "GET /tags": "All tags of the workspace, which users, companies and messages share.",
    "DELETE /tags/{id}": "Removes the tag from everyone. The response is empty.",
    "GET /segments": "`include_count=true` counts all segments for at most 12 seconds in total; a segment that is not"
    " counted by then has the count null. The API cannot create segments.",
    "GET /segments/{id}": "The count is of users who match now.",
    "POST /devices": "Identifies the user by `id`, then `user_id`, then `email`. Call it at each start of the app.",
    "GET /devices": "Identifies the user by `user_id`, `email` or `id`. A retired device has `retired_at`.",
    "DELETE /devices/{id}": "The push provider retires devices by itself when the app was removed.",
    "POST /notes": "Notes are for the team; customers never see them. `admin_id` is the author.",
    "GET /notes": f"Identifies the user by `user_id`, `email` or `id`. {PAGED}",
    "GET /notes/{id}": "The note with its author and the user whom it is about.",
    "GET /admins": "Staff users who may log in to the console. Their ids are `admin_id` and `from.id` of other calls.",
    "GET /admins/{id}": "A teammate who has left the team is a 404.",
    "GET /me": "A token acts for the teammate who created it, or for the first Admin if that one has left. The response"
    " is that teammate, with the workspace in `app` and the token in `integration`.",
    "GET /conversations": "For one user (`type=user`) this also matches email and push messages for that user, at most"
    " once per 15 minutes. Two headers report whether matching ran and when it may run again. Lists omit the parts.",
    "GET /conversations/{id}": "At most 500 parts. `conversation_message` is the message that began it, as the customer"
    " received it. The id of a message is not the id of a conversation.",
    "PUT /conversations/{id}": SAME_AS_READ,
    "PUT /conversations/{id}/reply": SAME_AS_READ,
    "POST /conversations/{id}/reply": "`message_type` is `comment` or `note`, `assignment` (with `assignee_id`),"
    " `open`, `close` or `snoozed` (with `snoozed_until`). A teammate's comment is also sent by email if the customer"
    " does not return soon. The id `last` stands for the newest conversation of the user that the body names.",
    "POST /messages": "Without `message_type` it is a chat in the app; others are `announcement`, `email` and `push`."
    " The body is HTML or plain text and may use variables. `links.self` of the response is the address of its result."
    " An unsubscribed, bounced or otherwise unreachable customer is a 403. Send an `Idempotency-Key`, so that a"
    " repeated request sends once.",
    "GET /messages/{id}": "`status` is that of the copy: waiting, sending, sent, failed, skipped, withdrawn, or"
    " uncertain if nobody can know whether it left. `conversation_id` is null until there is a conversation.",
    "GET /counts": "Without a type, the totals of users, leads, companies, tags and segments. With `type` and `count`,"
    " one type by group. Counting that takes too long is a 503.",
    "POST /contacts/convert": "The data, conversations and messages of the lead move to the user, who is created if"
    " they do not exist. A person known only by an address can be converted too, by their id.",
    "GET /visitors": "Finds the lead that a visitor of your website became, by the value of `getVisitorId` as"
    " `user_id`.",
    "PUT /visitors": f"{VISITOR} Name the visitor by `user_id` or `id` in the body.",
    "POST /visitors": f"{VISITOR} Some clients update by POST.",
    "POST /visitors/convert": "Moves the data, conversations and messages of the visitor to the user.",
    "GET /visitors/{id}": VISITOR,
    "PUT /visitors/{id}": f"{VISITOR} Stores the fields that are sent.",
    "DELETE /visitors/{id}": f"{VISITOR} They leave every audience at once.",
    "POST /user_delete_requests": "Name, email, attributes, conversations and the variables of messages are blanked."
    " This cannot be undone. `intercom_user_id` is our id.",
    "POST /bulk/users": "Up to 1,000 items, which a worker processes in order; the response is a job. Items with the"
    " method `delete` archive. A job accepts more items for 15 minutes.",
    "POST /bulk/events": "Up to 1,000 events, which a worker records in order; the response is a job.",
    "GET /jobs": f"Jobs of all tokens. {PAGED}",
    "GET /jobs/{id}": "`state` is `running` until every item was processed.",
    "GET /jobs/{id}/error": "An item with the code `stored_in_part` was stored except for the attributes that its"
    f" message names: do not send it again. {PAGED}",
    "POST /subscriptions": "Notifies your server of events by a POST. Store `hub_secret`, which signs the"
    " notifications: no later response contains it. The documentation of webhooks lists the topics.",
    "GET /subscriptions": "All webhooks of the workspace, without their secrets.",
    "GET /subscriptions/{id}": "`failing_since` is the time since when deliveries have failed, null if they succeed.",
    "PUT /subscriptions/{id}": "Only the fields that are sent change. `active: false` stops notifications.",
    "POST /subscriptions/{id}": "Some clients update by POST. Only the fields that are sent change.",
    "DELETE /subscriptions/{id}": "The response is the deleted subscription.",
    "POST /subscriptions/{id}/ping": "A notification with the topic `ping`, to test your server.",
    "GET /subscriptions/{id}/sent": f"With the status and time of each delivery. {PAGED}",
    "GET /subscriptions/{id}/error": f"`detail` says why; `next_attempt_at` is null if it is not tried again. {PAGED}",
    "GET /outbound": f"Messages to audiences, filtered by send type, state, channel, tag and topic. {PAGED}",
    "POST /outbound": "By default an ongoing email to everyone from the sender of the token's teammate. The composer's"
    " checks apply. `rules` is the audience as the composer stores it; a rule on a message takes its id.",
    "GET /outbound/{id}": "`counts` has the number of copies by status and result.",
    "PATCH /outbound/{id}": "Changes a draft; the content of a live or paused message, as a new version; the audience"
    " and delivery times of a paused ongoing one. A change to a field that is locked once live is a 409 `conflict`;"
    " `field` names it. A message can be sent back as it was read.",
    "GET /outbound/{id}/preview": "Rendered by the code that sends. Unknown values are marked and listed in `missing`."
    " Without a user all values are unknown. Nothing is stored.",
    "GET /outbound/{id}/review": "The console's review: `reviewed` people match, `receiving` can be reached, `left_out`"
    " says why the others cannot. Send `confirm` and `reviewed` with the launch.",
    "GET /outbound/{id}/why": "One copy, or one for each company of the user. Each rule says whether it holds and the"
    " value that it saw; `conditions` are those besides the rules.",
    "POST /outbound/{id}/live": LAUNCH,
    "POST /outbound/{id}/sample": f"`sample` is the number of people, drawn at random. {LAUNCH}",
    "POST /outbound/{id}/rest": f"The second and last launch: everyone who matches now and has no copy. {LAUNCH}",
    "POST /outbound/{id}/schedule": f"It goes live at `scheduled_for` if about as many people match then. {LAUNCH}",
    "POST /outbound/{id}/unschedule": "Until its time, a scheduled message can be made a draft again and be edited.",
    "POST /outbound/{id}/cancel": "While `launching_at` is set, nothing was sent yet. Afterwards, stop the message.",
    "POST /outbound/{id}/pause": "Nothing new is matched, sent or shown once the response has come.",
    "POST /outbound/{id}/resume": "Waiting copies of an ongoing message are checked again first.",
    "POST /outbound/{id}/stop": "Waiting copies are withdrawn. A stopped message cannot be started again.",
    "GET /senders": "The names and addresses that messages come from. `sender` of a message is one of these ids.",
}
