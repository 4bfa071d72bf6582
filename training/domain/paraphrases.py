# ruff: noqa: E501 - a pattern is read as one line
"""More ways to say it: roundabout questions, statements that ask, reasons given first. Joined to wordings.PATTERNS."""

_ASK = (
    "[can you tell me|could you tell me|do you know|would you know|do you happen to know|i wonder|i was wondering|"
    "i am wondering|i just wanted to ask|i would like to ask|i wanted to find out|just tell me|any idea|my question is|"
    "what i want to know is|maybe you can tell me|could you let me know|let me know|please let me know|"
    "i am trying to find out|my wife wants to know|my boss asked me to find out|would you mind telling me|"
    "i need to find out|i would be interested to know|can you say|i am not sure|nobody told me|remind me|explain to me]"
)
_PLACE = "[you|your shop|your office|your branch|your depot|the counter|the shop|the office|your store|your place|the branch]"
_VISIT = "[come by|come over|visit you|stop by|drop in|come in|come round|see you|pay you a visit|walk in|pop in|get to you|call at your office|drop something off|bring you something|hand something in]"
_WHEN = "[when|at what time|until when|until what time|from when|from what time|how long|how late|how early|between which hours|during which hours]"
_THING = "[parcel|package|packet|box|shipment|delivery|order|item|carton]"
_SEND = "[send|ship|mail|post|dispatch|send off|get]"
_FETCH = "[picked up|collected|fetched|taken away|taken from my house]"
_COME = "[come|come by|come over|stop by|be here|be at my house|be at my door|turn up|pass by|swing by]"
_WHO = "[you|somebody|someone|the driver|your driver|a driver|your man|your people|one of your drivers|a courier|your courier]"
_COLLECT = "[pick up|collect|fetch|get|take|pick up my parcel|collect my parcel|fetch my package|get the parcel|collect the box|pick the box up|take the parcel with you|collect something|pick something up|fetch something]"
_PICKUP = "[pick up|pickup|collection|pick up appointment|collection appointment]"
_HUMAN = "[a human|a person|a real person|a human being|somebody real|a real human|one of your colleagues|an employee|a member of staff|somebody from your team|somebody in the office|a customer adviser|one of your staff|an agent|an operator|your supervisor|the person in charge|somebody who works there|a man or a woman]"


def _asked(clauses: str) -> str:
    return f"{_ASK} {clauses}"


def _price(size: str, name: str) -> list[str]:
    one = f"[a|one|this|my|our] {size} [{_THING}|one]"
    return [
        _asked(f"[what|how much] {one} [costs|would cost|is|would be|comes to|will set me back]"),
        _asked(
            f"[the price of|the rate for|the fee for|what you charge for|what you take for|what i pay for|what i have to pay for] {one}"
        ),
        f"[what|how much] [do i|would i|will i|must i|should i|do we|does one|do people] [pay|have to pay|owe you|need to pay] for {one}",
        f"[sending|shipping|mailing|posting] {one} [what does that cost|how much is that|what is that|how much would that be|what would i pay]",
        f"[what|how much] does [sending|shipping|mailing|posting] {one} cost [me|these days|now|]",
        f"[what is|what's|what would be] the [price|rate|fee|charge|cost|tariff] [of|for] {one}",
        f"i [want|need|have|would like|plan|am going] to {_SEND} [off|] {one} [what is the price|how much do you want for it|what do you charge|how much will that be|what would that cost me]",
        f"{one} [what does it cost|how much is it|what do i pay|how much do you charge|what is the price|how much would it be]",
        f"it is [just|only|quite|rather|] {one} how much [do you charge|do you want|will it be|would that be]",
        f"[name|tell me|give me|quote me] [the|a|your] price for {one}",
        f"[suppose|say|let's say] i {_SEND} {one} [what do i pay|how much is it|what would you charge]",
        f"and if [it is|it's|the parcel is|my box is] {size} [how much|what is it then|what do i pay|what does it cost]",
        f"[price|cost|rate] [for|of] {size} [parcels|packages|boxes|ones] [please|]",
        f"how much [money|] [do you|would you|will you] [ask|charge|take|want] for {one}",
    ]


def _at_a_time(slots: str) -> list[str]:
    """Bookings; `slots` is "{day}", or day and time."""
    return [
        f"[could|can|would|will] {_WHO} {_COME} {slots} [and|to] {_COLLECT}",
        f"i [need|want|would need|would like|require] {_WHO} to {_COLLECT} {slots}",
        f"[please|could you please|be so kind and|] send {_WHO} {slots} [please|to {_COLLECT}|]",
        f"[i have|there is|we have|i have got] [a|one|some] {_THING} [that needs to be {_FETCH}|to be {_FETCH}|which should be {_FETCH}|for you to collect] {slots}",
        f"{slots} [would|could] {_WHO} {_COLLECT}",
        f"[let's|let us|we could|why don't we] [do|arrange|have|fix|make] [the|a] {_PICKUP} [for|] {slots}",
        f"[my|the|a|our] {_THING} [has to be|must be|should be|needs to be|can be] {_FETCH} {slots}",
        f"[schedule|arrange|reserve|book|set up|note down|enter] {_WHO} [for me|] {slots}",
        f"i [am|will be|would be] [at home|in|here|free|available] {slots} [so|and] {_WHO} can {_COLLECT}",
        f"[would|is] {slots} [be okay|work|be possible|okay|all right|possible] for [a|the|my] {_PICKUP}",
        f"[reserve|save|keep|hold] [me|] [a slot|an appointment|a place|a date] {slots} for [a|my|the] {_PICKUP}",
        f"[i was hoping|i hope|we were hoping|i would be happy if] {_WHO} could {_COLLECT} {slots}",
        f"for [the|my] {_PICKUP} [i would take|i choose|i want|let's take|please take] {slots}",
    ]


PARAPHRASES: dict[str, list[str]] = {
    "greet": [
        "[hello|hi|hey|good morning|good afternoon|good evening] [is this thing on|is somebody on the line|am i through|did i get through|is someone listening|do i have somebody on the line|anyone on the phone|is anybody listening]",
        "[i could use|i would need|i am looking for|i want|i would like] [some help|some assistance|a bit of help|your help] [please|]",
        "[are you able|would you be able|would it be possible for you] to help me [with something|out|]",
        "[i wanted to ask|may i ask|can i ask|let me ask|i would like to ask] you [something|a question|a little question]",
        "[good morning|good afternoon|good evening|hello] [to you|sir|madam|everybody] [how can i get help|can you assist me|will you help me|i hope you can help me]",
        "[hello|hi] [it is me again|this is john|this is a customer|my name is peter|here is mary]",
        "[is this|have i reached|did i reach|am i talking to] the [parcel people|parcel company|customer service|help line|hotline]",
    ],
    "hours": [
        _asked(f"{_WHEN} {_PLACE} [is open|are open|opens|closes|can be visited|is staffed|shuts]"),
        _asked(f"{_WHEN} [i|we|people|customers|one] [can|could|may] {_VISIT}"),
        _asked(
            "[what your|about your|your|what the|the] [opening hours|opening times|business hours|working hours|office hours|hours of business|hours] [are|are like|are these days|]"
        ),
        f"{_WHEN} [can|could|may|should] [i|we|people|customers|my son|my friend|somebody] {_VISIT}",
        f"{_WHEN} [is|are] [people|customers|visitors] [allowed|able|welcome] to {_VISIT}",
        f"{_WHEN} [is|will] [somebody|someone|anybody|anyone|your staff] [there|at the counter|in the office|in the shop|around|working] [usually|normally|]",
        f"i [want|would like|plan|need|am planning|was going] to {_VISIT} [when are you open|what are your hours|until when are you there|when would that be possible|when is it possible|when do you close]",
        "[what|which] [are|would be] [the|your] [regular|normal|usual|current|] [opening hours|opening times|office hours|business hours|working hours]",
        "[on which days and|which days and] [at what times|what hours] are you [open|there|available]",
        "[during the week|on weekdays|on a normal day|usually|normally] [when are you open|how long are you open|when do you open|until when are you there|what are your hours]",
        "[when|how early] [do you start|does your day start|do you unlock the door|do you open up|do you begin] [in the morning|]",
        "[when|how late] do you [finish|stop working|lock the door|close up|go home|shut down] [in the evening|]",
        "[i need|i would like|read me|say me|list|give me] [the|your|all your] [opening times|opening hours|business hours|schedule|timetable]",
        "is [your shop|your office|the counter|the shop] [still open|open at the moment|open now|already closed|open these days]",
        "[i am standing in front of your door|i am on my way to you|i want to drive to you now] [are you open|when do you open|until when are you open|how long are you there]",
    ],
    "hours_day": [
        _asked(f"{_WHEN} {_PLACE} [is open|are open|opens|closes|shuts|can be visited] on {{day}}"),
        _asked(f"{_WHEN} [i|we|people|customers|one] [can|could|may] {_VISIT} on {{day}}"),
        _asked("[whether|if] {p} [is|are] [open|closed|staffed] on {day}".replace("{p}", _PLACE)),
        _asked(
            "[your|the|about your|what your|what the] [opening hours|opening times|business hours|hours] [for|on] {day} [are|]"
        ),
        f"{_WHEN} [can|could|may|should] [i|we|people|customers|my son|my friend|somebody] {_VISIT} [on|this|next] {{day}}",
        f"on {{day}} {_WHEN} [can|could|may] [i|we|people|customers] {_VISIT}",
        "[is|will] [somebody|someone|anybody|anyone] [be|] [there|at the counter|in the office|in the shop|around|working] [on|this|next] {day}",
        f"[if|suppose|in case] i {_VISIT} on {{day}} [are you open|until when are you there|will you be open|is somebody there|when do you close|how long are you open]",
        f"i [want|would like|plan|need|am planning|was going|would have to] {_VISIT} on {{day}} [when are you open|what are your hours|until when are you there|is that possible|are you open then|when do you close]".replace(
            "to {_VISIT}", _VISIT
        ),
        "[what|which] [are|would be] [the|your] [opening hours|opening times|office hours|business hours] [on|for] [a|] {day}",
        "[do|would] you [open|work|have opening hours|receive customers|see customers] [on|on a] {day}",
        "{day} [what time do you close|what time do you open|until when|are you there|how long are you open|are you closed|when can i come]",
        "[as for|regarding|concerning|and for|then] {day} [what are your hours|when are you open|are you open|how long are you open]",
        "[what time|when] is [the last moment|the latest] [i can|to] come [in|] on {day}",
        "[when|what time] does [your shop|your office|the shop|the office|the counter] [open|close|shut|lock up] on {day}",
        "[i only have time|i am only free|i can only come] on {day} [are you open|when are you open|is that possible|do you work then]",
    ],
    "hours_weekend": [
        _asked("[when|if|whether|until when] you are open [at|on|over] the weekend"),
        "[on|at|over] the weekend [when are you open|are you open|can i come|do you work|what are your hours|until when are you there]",
        "[are you|is your shop|is the office|is somebody] [open|there|closed] [on|at] [weekends|saturdays and sundays|saturday and sunday]",
        f"[can|could] i {_VISIT} [on|at|over] [the weekend|weekends]",
        "[what|which] hours do you have [on|at|over] the weekend",
        "i [only have time|am only free|can only come] [on|at] the weekend [are you open|when are you open|is that possible]",
        "[how is it|what is it like] [on|at] the weekend are you open",
        "do you [close|have closed|shut|take a rest] [on|at] the weekend",
    ],
    "address": [
        _asked(f"where {_PLACE} [is|are|is located|is situated|can be found|are located]"),
        _asked("[your|the|what your|what the] [exact|full|postal|street|] address [is|]"),
        _asked(
            "[how to get to you|how i get to you|how to find you|where i have to go|where to go|where i can find you|where you sit|which street it is|where to bring my parcel|where i should bring it|where i hand it in]"
        ),
        f"where [exactly|] [is|can i find|do i find|would i find|should i look for] {_PLACE}",
        "[to which|to what|which|what] address [do i|should i|must i|can i|shall i] [come|go|drive|bring it|bring my parcel|deliver it|walk|take it]",
        "[in which|in what|on which|which] [part of town|street|road|place|corner|building|city] [are you|is your office|is your shop|do i find you|can i find you|are you based]",
        "i [want|would like|need|am going|plan] to [come to you|visit you|drive to you|bring a parcel|bring you a box|hand in a parcel|drop off a package] [where do i go|where is it|what is the address|where are you|what is your address|which street is it]",
        "[i am in my car|i am in town|i am on my way|i am lost|i got lost|i am driving] [where are you|what is the address|where do i have to go|what is your address|where is your office|which street is it]",
        "where [do i|can i|should i|must i|could i|may i] [drop off|hand in|bring|take|leave|return|deliver|pick up|collect] [my|a|the|this|these|our] [parcels|{t}]".replace(
            "{t}", _THING
        ),
        "[please|could you|can you|] [spell out|give me|say|repeat|read out|send me|name|tell me] [the|your] [full|exact|complete|] address",
        "[i cannot see|i do not see|i can't find|i could not find|i do not have|i lost] [your shop|your office|your address|the entrance] [where is it|where are you|where exactly is it|what is it]",
        "where [is your company|is your firm|is your headquarters|are your premises|is your building|do you have your office|do you sit|are you based|is your nearest shop]",
        "what do i [type into|put into|enter in|tell] [my phone|the map|the taxi driver|my sat nav] to [find you|get to you|come to you]",
        "[which|what] [street and|street|house] number [is it|do you have|are you at|is your shop at]",
        "how [would|could|can|does] [i|one|somebody] [get|come|drive|walk] to [your shop|your office|you|your place|the depot]",
    ],
    "price_small": _price("[small|little|tiny|very small]", "small"),
    "price_medium": _price("[medium|medium sized|middle sized|mid sized|middling|medium size]", "medium"),
    "price_large": _price("[large|big|huge|very big|really large|extra large]", "large"),
    "price_all": [
        _asked(f"[what|how much] [sending|shipping|mailing|posting] [a|one] {_THING} costs"),
        _asked(
            "[your|the|about your|what your|what the] [prices|rates|tariffs|price list|fees|charges] [are|for parcels are|for parcels|]"
        ),
        _asked(
            "[what it costs|how much it is|how much you charge|what you charge|what i have to pay|how expensive you are|how expensive it is] [to send something|to ship a parcel|to send a parcel|for a parcel|for parcels|]"
        ),
        f"i [want|need|have|would like|plan] to {_SEND} [off|] [a|some|a few|two] [{_THING}|parcels|things|boxes] [what are your prices|what do you charge|how much is it|what would that cost|what does that cost me|how expensive is that]",
        "[what|how much] [do i|would i|will i|do people|do customers|does one] [pay|have to pay|need to pay] [you|] [for a parcel|to send something|for sending something|to ship something|for parcels|with you]",
        "[what|how much] [do you|would you|will you|does your company] [charge|ask|want|take] [people|customers|me|] [to send something|for a parcel|for sending parcels|for shipping|for parcels]",
        "[list|read me|give me|tell me|name|say] [all|] [your|the] [prices|rates|tariffs|fees|price list|parcel prices]",
        "[how much is|what does] [shipping|postage|sending something|mailing something|the service|the delivery|transport] [cost|with you|]",
        "[are you|is it|is shipping|is sending a parcel] [expensive|cheap|costly] [what are your prices|how much is it|what does it cost|what do you charge]",
        "what [kind of|] [prices|rates|parcel rates|parcel prices] do you have",
        "[before i send something|first of all|before i come] [what are your prices|what does it cost|how much do you charge|how much is a parcel]",
        "[what is|what's] [the cost|the damage|your rate|your tariff|your fee] [for sending a parcel|for a parcel|for parcels|to ship something]",
    ],
    "number": [
        "[the|my] [parcel|package|one] [i am looking for|i am waiting for|i ordered|i mean|that i am expecting|i am missing|in question] [is|has the number|has number|is number] {number}",
        "[on|] [the|my] [label|receipt|slip|paper|note|invoice|ticket|card|email] [says|reads|it says|there is written|i can see|there is|shows] [number|the number|] {number}",
        "[it says|i see|i can read|i have here|here i have|there is|i am looking at|they gave me|i was given|i got] [the number|number|] {number} [here|on it|on the label|on my paper|]",
        "[ready|okay|here you go|here it is|here we go|all right|listen|so listen|one moment|let me see|wait|hold on] [it is|the number is|my number is|it's|] {number}",
        "[so|well|okay|] [my|the] [parcel|package|number|parcel number|tracking code|code|reference|reference number|consignment number|shipment number] [is|would be|should be|goes] {number}",
        "[do you have|have you got|is there|can you see|do you see|can you find|did you find] [a|any|] [information|news|news about|something about|anything about|a parcel with] [the number|number|parcel|package] {number}",
        "[what about|how about|any news about|what happened to|what is with|where did you leave|tell me about|give me news of] [parcel|package|number|parcel number|my parcel] {number}",
        "i [want|would like|need|am calling|wanted] to [ask about|track|know about|check|inquire about|report|find|trace] [parcel|package|number|parcel number|the parcel] {number}",
        "{number} [that is what it says|is what is on the label|is what they gave me|is the one i mean|that is the one|is the parcel|is the number of my parcel|that should be it|is my package]",
        "[they told me|i was told|my wife says|my neighbour says|the shop told me|the sender told me|i believe|i think] [the number is|it is|it is number|my number is] {number}",
        "[you asked for|you wanted|here is|this is|now comes|here comes] [the number|my number|the parcel number|my parcel number] [it is|] {number}",
        "[still waiting for|still no sign of|waiting for|missing] [parcel|package|number] {number}",
        "[could|can|would] you [tell me|say|see] [where|when] [parcel|package|number] {number} [is|will come|arrives]",
    ],
    "parcel": [
        _asked(f"where my {_THING} [is|has gone|went|could be|might be|got stuck]"),
        _asked(f"when my {_THING} [comes|arrives|will come|will arrive|gets here|is delivered|will be delivered]"),
        _asked(f"[what happened to|what is going on with|why i have not got|what became of] my {_THING}"),
        f"[nobody|no one|you|your driver|the driver|they] [brought|delivered|has brought|has delivered|never brought|did not bring|did not deliver] [me|] my {_THING} [yet|so far|]",
        f"i [am still waiting|have been waiting|am waiting|wait|have waited] for [my|a|the] {_THING} [for days|for a week|since monday|all day|for so long|]",
        f"[is there|do you have|have you|have you got] [any|some] [news|information|update|word|idea] [about|on|of] my {_THING}",
        f"[my|our|the] {_THING} [is still not here|should have come|should be here|should have arrived|was supposed to come|got lost|seems to be lost|is gone|did not turn up|is nowhere|has disappeared|is delayed|is overdue] [yesterday|last week|by now|already|]",
        f"[how|where|can i] [can i track|do i track|can i follow|do i find|can i find out about|track|check on] my {_THING}",
        f"[what is the matter with|what about|what is up with|how about|what's the status of|tell me about|where have you left|where did you put] my {_THING}",
        f"[somebody|my aunt|my mother|a friend|a shop|my company] [sent|has sent|mailed|shipped] me a {_THING} [where is it|but it is not here|and it did not come|when will it come|when does it come]",
        f"[i am looking for|i miss|i am missing|i cannot find|i never got|i did not get|i have not got] [my|a|the] {_THING} [yet|anywhere|]",
        f"[did you|have you] [lose|lost|already deliver|already delivered|deliver|delivered|send out|sent out] my {_THING}",
    ],
    "yes": [
        "[yes|yeah|yes yes|oh yes|yes indeed] [you understood me|you got that right|you understood correctly|all correct|everything is right|that's the one|that is the one|precisely|very good]",
        "[that's|that is|this is|it is] [the one|it exactly|exactly right|perfectly right|all right|okay|good]",
        "[i agree|go ahead|sounds good|sounds right|do that|please do|you may|affirmative|true|definitely|for sure|that will do|good|fine|great|very good]",
    ],
    "no": [
        "[no|oh no|no no|unfortunately not|no unfortunately] [that's not what i said|you did not get it|that is something else|that's the wrong one|it is different|that's a different number|not that one]",
        "[that|this|the number] [does not|doesn't] [sound right|match|fit|look right]",
        "[never|negative|certainly not|of course not|absolutely not|i am afraid not|that is not what i meant|please don't|better not|rather not|not that]",
    ],
    "recall": [
        _asked(
            "[which|what] [parcel|package|] number [i gave you|i told you|you have|you wrote down|i said|it was|you noted|i have given you] [earlier|before|a moment ago|at the beginning|just now|]"
        ),
        "[which|what] number [did i|have i|had i] [give|given|tell|told|mention|mentioned|say|said] [you|] [earlier|before|a moment ago|at the beginning|just now|first]",
        "[sorry|wait|one moment|hold on|by the way|actually] [which|what] [number was that|number was it|number did you have|number did i say|was my number|was the number]",
        "[let me|i want to|i would like to|can i] [hear|check|have|verify|double check] [the|my] [parcel|] number [again|once more|once again]",
        "[i do not|i don't|i can't] [remember|recall|know] [my|the] [parcel|] number [any more|what was it|can you help me|which was it|]",
        "[could|can|would] you [repeat|read|say|give] [me|] [the|my] number [that i gave you|you noted|again|you have there|from before]",
        "what [number|parcel number] [is|do you have] [in your system|on your screen|on file|written down|there]",
        "[tell|remind] me [again|once more|] [which|what] number [i gave|it was|that was|i said|you have]",
    ],
    "book": _at_a_time("[on|for|] {day} at {time}") + _at_a_time("at {time} [on|] {day}"),
    "book_day": _at_a_time("[on|for|this|next] {day}"),
    "book_open": [
        f"i [need|want|would need|would like|require] {_WHO} to {_COLLECT}",
        f"[could|can|would|will] {_WHO} {_COME} [and|to] {_COLLECT}",
        f"[i have|there is|we have|i have got] [a|one|some] {_THING} [that needs to be {_FETCH}|to be {_FETCH}|which should be {_FETCH}|for you to collect]",
        f"[my|the|a|our] {_THING} [has to be|must be|should be|needs to be|can be] {_FETCH}",
        _asked(f"[how i can|how to|if i can|whether i can] [arrange|order|book|get] a {_PICKUP}"),
        f"[is it possible|would it be possible] [to arrange|to order|to book|to get|to have] a {_PICKUP}",
        f"[please|could you please|] send {_WHO} to {_COLLECT}",
        f"[i was hoping|i hope|i would be happy if|it would be nice if] {_WHO} could {_COLLECT}",
        f"[let's|let us|we should] [arrange|make|book|fix] a {_PICKUP}",
        f"[when|at what time] [can|could] {_WHO} {_COLLECT}",
    ],
    "change": [
        f"[could|can] [we|you] [rather|instead|] [do|have|make|put] [my|the] {_PICKUP} [on|for] {{day}} at {{time}} [instead|]",
        f"i [would rather|would prefer to|want to|need to|have to|would like to] have [my|the] {_PICKUP} [moved|changed|shifted|rescheduled|postponed] to {{day}} at {{time}}",
        f"[the|my|that] {_PICKUP} [must|has to|should|needs to|will have to] [be moved|be changed|be shifted|be rescheduled|move|change] to {{day}} at {{time}}",
        f"[is it|would it be] [possible|okay] to [move|change|shift|reschedule|postpone] [my|the] {_PICKUP} to {{day}} at {{time}}",
        "instead of [that|the other day|today|tomorrow] [let's take|i want|please come|make it|come] {day} at {time}",
        "[something came up|i have to work|i am not at home then|i made a mistake|plans have changed] [can we make it|could you come|please make it|move it to|change it to] {day} at {time} [instead|]",
        f"{{day}} at {{time}} [would be better|suits me better|is better|would suit me better] for [my|the] {_PICKUP}",
        f"please [put|push|shift|switch|bring forward] [my|the] {_PICKUP} to {{day}} at {{time}}",
    ],
    "change_open": [
        f"[is it|would it be] [possible|okay] to [move|change|shift|reschedule|postpone] [my|the] {_PICKUP}",
        f"[the|my|that] {_PICKUP} [must|has to|should|needs to|will have to] [be moved|be changed|be shifted|be rescheduled|change]",
        f"[something came up|i have to work|i am not at home then|i made a mistake|plans have changed] [can we|could we|i need to|i have to] [move|change|shift|postpone] [the|my] {_PICKUP}",
        f"[could|can] [you|we] find [another|a different|a better|a new] [day|time|date] for [my|the] {_PICKUP}",
        f"i [would like|want|need] [my|the] {_PICKUP} [on another day|at another time|some other time|earlier|later]",
    ],
    "cancel": [
        f"[my|the|that] {_PICKUP} [is not needed|is no longer needed|is not necessary|is not necessary any more|can be cancelled|is off|should be cancelled|has to be cancelled]",
        f"i [do not|don't|no longer|won't] [want|need|require] [the|my|a|that] {_PICKUP} [any more|any longer|after all|]",
        f"[please|could you|can you|just|] [call off|take back|undo|strike|withdraw|scrap|drop|delete|annul|cancel] [my|the|that|our] {_PICKUP}",
        "[tell|please tell] [the driver|your driver|your people] [not to come|he need not come|to stay away|that i do not need him]",
        "[nobody|no one|the driver|your driver] [needs to|has to|should|must] [come|pick up anything|collect anything] [any more|after all|]".replace(
            "[nobody|no one|the driver|your driver] [needs to|has to|should|must]",
            "[nobody|no one] [needs to|has to|should|must]",
        ),
        f"i [would rather|would like to|have to|want to|must|need to|wish to] [cancel|call off|take back|drop] [my|the|that] [{_PICKUP}|booking|order|appointment]",
        f"[is it|would it be] [possible|okay] to [cancel|call off|drop] [my|the] {_PICKUP}",
        f"[i made other plans|i brought it myself|it is already sent|i found another way|the parcel is gone already] [please cancel|cancel] [my|the] {_PICKUP}",
    ],
    "transfer": [
        f"[could|can|may|would it be possible that|is it possible that] [i|we] [speak|talk] [to|with] {_HUMAN}",
        f"i [would rather|would prefer to|want to|have to|must|insist to|would like to|wish to|really need to] [speak|talk] [to|with] {_HUMAN}",
        f"[get|give|bring|find|fetch|pass me to|put me through to|hand me over to|connect me to|connect me with|forward me to|transfer me to|switch me to] [me|] {_HUMAN} [please|on the phone|on the line|]".replace(
            "[get|give|bring|find|fetch|pass me to|put me through to|hand me over to|connect me to|connect me with|forward me to|transfer me to|switch me to] [me|]",
            "[get me|give me|find me|fetch me|pass me to|put me through to|hand me over to|connect me to|connect me with|forward me to|transfer me to|switch me to|let me have]",
        ),
        f"[is there|do you have|isn't there|do you not have] {_HUMAN} [there|i could speak to|i can talk to|who could help me|for me|available|around]",
        "i [do not like|hate|cannot stand|don't want|am tired of] [talking to|speaking to|speaking with] [machines|computers|robots|a machine|a computer|a robot] [give me a person|i want a human|]",
        f"[you cannot|you can't|a machine cannot|you do not] [help me|solve this|understand me|answer that] [let me talk to|give me|i need|i want] {_HUMAN}",
        f"[i have|i want to make|i would like to make] a complaint [let me talk to|give me|i need to speak to] {_HUMAN}",
        f"[i'd like|i would like|i want|i need] {_HUMAN} [on the phone|on the line|please|to help me|to call me|]",
        f"[please|could you|can you|would you|] [call|ask|get] {_HUMAN} [for me|to the phone|to talk to me]",
    ],
    "repeat": [
        "[sorry|excuse me|pardon|oh sorry] i [was distracted|was not listening|lost you|couldn't follow|did not follow|missed the last part|did not get that]",
        "[could|can|would] you [please|] [repeat|say] [it|that|what you just said|what you said|this|everything] [again|one more time|for me|please|]",
        "[what|how] was that [again|now|please]",
        "[you were|it was|that was] [too quiet|hard to hear|not clear|unclear|breaking up] [say it again|please repeat|again please]",
        "[tell me|give me] that [again|once more|one more time]",
    ],
    "slower": [
        "[could|can|would] you [please|] [speak|talk|go|answer] [a little|a bit|much|] [slower|more slowly|less fast|less quickly]",
        "[i am|i'm] [old|not so quick|a little deaf|hard of hearing|writing it down|taking notes|not a native speaker] [please speak slowly|slower please|please slow down|speak more slowly]",
        "i [cannot|can't|could not|couldn't] follow [you|that] [slower please|please speak slowly|you talk too fast|you speak too fast|please slow down]",
        "[take your time|no need to rush|do not rush|don't hurry|not in such a hurry] [please|]",
        "[a little|a bit|much] slower [please|if you can|would be good]",
    ],
    "faster": [
        "[could|can|would] you [please|] [speak|talk|go|answer] [a little|a bit|much|] [faster|more quickly|quicker|less slowly]",
        "[i have no time|i am in a hurry|i have not got all day|time is money] [speak faster|faster please|please hurry|talk quicker|please speed up]",
        "[a little|a bit|much] [faster|quicker] [please|if you can|would be good]",
        "[you are|this is] [very|so|much too|terribly|too] slow [speed up|hurry up|faster please|speak faster]",
    ],
    "identity": [
        _asked(
            "[who you are|who i am talking to|who i am speaking with|what your name is|who is speaking|which company this is|whom i have on the line|if you are a machine|whether you are a human|if you are real|if this is a computer]"
        ),
        "[who|whom] [do i have|have i got|did i get] on the [line|phone]",
        "you [sound|seem|talk|speak] [like|a bit like] [a machine|a robot|a computer|a recording] [are you one|are you|is that so|]",
        "[are you|is this|am i speaking to|is that|do i speak to] [really|actually|just|perhaps|] [a human|a machine|a robot|a computer program|a real person|an actual person|a voice computer|artificial intelligence|a chat bot|a tape|made of flesh and blood|alive]",
        "[what|which] [kind of company|firm|business|service|organisation] [is this|are you|is that|am i connected to]",
        "[and you are|you are who|and who are you|who exactly are you|what exactly are you|what are you exactly|whose voice is this|who am i dealing with|introduce yourself|please introduce yourself]",
        "[what|how] [is your name|are you called|may i call you|do they call you|are you named]",
        "[is there|am i talking to] [a human|a real person|somebody real] [behind this voice|at the other end|on the other side|speaking]",
    ],
    "how": [
        "[and|so|tell me|] how [are you|do you feel|is everything|is your day|are things|have you been|is life] [on this fine day|this fine morning|today|there|with you|at your end|]",
        "[i hope|hopefully] [you are|everything is] [well|fine|good|doing well] [today|there|with you|]",
        "[are you|is everything] [okay|all right|fine|well|good] [today|over there|with you|]",
        "[what's up|how goes it|how are we today|how's it going|how's everything|you all right|how do you feel today|nice to hear you]",
    ],
    "thanks": [
        "[oh|ah|well|okay|great|] [thank you|thanks] [that was|you were|that is|this is|you have been] [really|very|so|extremely|quite|] [helpful|nice|kind|good of you|useful|friendly|sweet]",
        "[thank you|thanks|many thanks] for [everything|the help|your patience|your time|telling me|the quick answer|the information|your service|explaining|being so kind|that]",
        "[that|this|it] [helps|helped|is] [me|] [a lot|very much|great|enough] [thank you|thanks|]",
        "[i am|we are|i'm] [very|so|really] [grateful|thankful|obliged]",
        "[much|greatly] appreciated",
        "[how nice|how kind|wonderful|lovely|brilliant|fantastic|super] [of you|thank you|thanks]",
    ],
    "bye": [
        "[okay|well|all right|good|fine|so|right] [then|] [that is|that was|that's] [everything|all|it|all i wanted|all i needed|all for today] [goodbye|bye|bye now|bye bye|thank you and goodbye|]",
        "[well then|okay then|all right then|so then|right then] [goodbye|bye|bye bye|have a nice day|take care|see you]",
        "[i do not|i don't] [need|want] anything [else|more] [goodbye|bye|thank you bye|thanks|]",
        "[i will|i'll|let me] [hang up|go|leave|end the call|say goodbye] [now|then] [bye|goodbye|thank you|]",
        "[thanks|thank you] [a lot|very much|for everything|for your help] [and goodbye|bye|goodbye|and bye bye|bye then]",
        "[talk to you|speak|see you|hear you] [soon|later|another time|next time|tomorrow]",
        "[enjoy your day|have a lovely day|have a nice weekend|all the best|take care of yourself|good night] [bye|goodbye|]",
    ],
    "style": [
        "[could|can|would] you [please|] [speak|sound|talk|be|answer] [more|a bit more|a little|] [serious|angry|scared|surprised]",
        "i [do not like|don't like|hate|would like another|want another] [your|] voice",
        "[say|tell me|repeat] [it|that] [like a child|like a man|like a woman]",
    ],
    "language": [
        "[is it possible|would it be possible|will it be possible] to [speak|talk|continue] [in|] [german|french|spanish|italian|polish|russian]",
        "[could we|can we|may we|shall we] [maybe|perhaps|rather|] [speak|talk|continue|do this] [in|] [german|french|spanish|italian|polish|russian]",
        "[i|my wife|my mother] [speak|speaks|understand|understands|know|knows] [only|better|] [german|french|spanish|italian|polish|russian]",
        "[is there|do you have] [somebody|an option|a version|a line] [in|for|who speaks] [german|french|spanish|italian|polish|russian]",
        "my english is [bad|poor|not good|not so good|terrible]",
    ],
    "other": [
        _asked(
            "[how to cook spaghetti sauce|how deep the sea is|who wrote that book|how to repair a bicycle|what is on television|how old the earth is|where babies come from|how to get rich|how far the moon is|who painted that picture|how to write a letter|what to cook tonight|how to fix my roof|why the sky is blue|how to tie a tie]"
        ),
        "[who is going to|who will|will my team|which team will] win [the cup|the election|tomorrow|the race|the match|on sunday|the league]",
        "i [need|am looking for|want|would like] [somebody|a man|a person|someone] [to repair my roof|to fix my sink|to clean my house|to walk my dog|to paint my kitchen|to teach me piano|to cut my hair|to mow my lawn]",
        "[what is|which is|what was] the [best|worst|longest|oldest|fastest|most expensive] [book|movie|river|building|car|animal|song|country|restaurant|hotel] [of all time|in the world|in town|on earth|you know]",
        "my [neighbour|dog|cat|boss|husband|daughter|garden|bath tub|fridge|heating|television|bicycle|tooth|back] [is broken|is making noise|hurts|is sick|is so loud|does not work|drives me crazy|has a problem]",
        "[recommend|suggest|can you recommend|can you suggest|do you know] [me|] [a good film|a good restaurant|a nice book|a cheap hotel|a dentist|a present for my wife|a holiday|a good wine]",
        "[sing|play|read|write|draw|translate|calculate|guess|count] [me|] [something|a song|a poem|a letter|a picture|to one hundred|what i am thinking]",
        "[when|where|why|how] [was the war|is the next train|did the king die|does the concert start|do birds sleep|does the film begin|do i vote|can i learn chinese|do planes fly|is the swimming pool]",
        "[i want|i would like|can i|i need] to [buy|order|rent|sell] [a washing machine|a winter coat|a lawn mower|some cheese|two tickets|a guitar|a boat|a new sofa|insurance|some wine|a laptop]",
        "[lend me|give me|send me|can you lend me|can i have] [some money|a hundred euros|your car|a kiss|a discount on shoes|a job|an umbrella]",
        "[shall i|should i|may i] [marry him|take an umbrella|sell my shares|eat less meat|buy gold|wear a coat|see a doctor|call my mother]",
        "[what do you think of|do you believe in|are you afraid of|do you like|have you ever seen] [god|ghosts|the government|spiders|the moon|my hair|classical music|horses|snow|the new film]",
    ],
}
